from docs.hooks.navigation import REST, completed

NAV = ["index.md", {"Use": ["a.md", {"Decisions": ["decisions/index.md", "decisions/*"]}]}]
PAGES = ["index.md", "a.md", "decisions/index.md", "decisions/0002-b.md", "decisions/0001-a.md"]


def test_a_pattern_stands_for_its_pages_in_order_and_each_once() -> None:
    assert completed(NAV, PAGES) == [
        "index.md",
        {
            "Use": [
                "a.md",
                {"Decisions": ["decisions/index.md", "decisions/0001-a.md", "decisions/0002-b.md"]},
            ]
        },
    ]


def test_what_is_not_named_comes_last() -> None:
    made = completed(NAV, [*PAGES, "new.md", "repository/LICENSE.md"])
    assert made[-1] == {REST: ["new.md"]}
