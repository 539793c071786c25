"""The README shows what the records say."""

from benchmarks.tables import README, section, updated


def test_the_readme_matches_the_records() -> None:
    text = README.read_text(encoding="utf-8")
    assert updated(text, section()) == text, "run `python -m benchmarks.tables`"


def test_only_the_marked_part_changes() -> None:
    text = "a\n<!-- results: x -->\nold\n<!-- /results -->\nb\n"
    assert updated(text, "new") == "a\n<!-- results: x -->\nnew\n<!-- /results -->\nb\n"
