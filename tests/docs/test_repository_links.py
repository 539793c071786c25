from docs.hooks.repository_links import relinked

KNOWN = {
    "docs/a.md": "a.md",
    "docs/sub/b.md": "sub/b.md",
    "README.md": "index.md",
    "benchmarks/LOG.md": "repository/benchmarks/LOG.md",
    "docs/p.svg": "p.svg",
}


def links(markdown: str, source: str = "docs/a.md", address: str = "a.md") -> str:
    return relinked(markdown, source, address, KNOWN.get)


def test_a_link_leads_from_page_to_page() -> None:
    assert links("[x](sub/b.md#at)") == "[x](sub/b.md#at)"
    assert links("[x](../README.md)") == "[x](index.md)"
    assert links("[x](../../benchmarks/LOG.md)", "docs/sub/b.md", "sub/b.md") == (
        "[x](../repository/benchmarks/LOG.md)"
    )
    assert links("[x](docs/sub/b.md)", "README.md", "index.md") == "[x](sub/b.md)"


def test_a_picture_within_a_link_is_one_too() -> None:
    assert links("[![x](p.svg)](../README.md)") == "[![x](p.svg)](index.md)"


def test_what_has_no_page_keeps_its_words() -> None:
    assert links("see [the folder](../tests/) there") == "see the folder there"


def test_other_hosts_anchors_and_code_stay() -> None:
    for text in (
        "[x](https://example.org/a.md)",
        "[x](mailto:a@example.org)",
        "[x](#here)",
        "```\n[x](../README.md)\n```\n",
    ):
        assert links(text) == text


def test_text_between_blocks_of_code_is_changed() -> None:
    block = "```text\n[x](../README.md)\n```\n"
    text = f"{block}\n[x](../README.md)\n\n{block}"
    assert links(text) == f"{block}\n[x](index.md)\n\n{block}"
