from pathlib import Path

import pytest

from app.whole_folder import whole_folder


def test_it_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "one"
    for text in ("old", "new"):
        with whole_folder(folder) as partial:
            assert list(partial.iterdir()) == []
            (partial / text).write_text(text)
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(OSError, match="full"):
        fill(folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["one", "old"]


def fill(folder: Path) -> None:
    with whole_folder(folder) as partial:
        (partial / "new").write_text("new")
        raise OSError("full")
