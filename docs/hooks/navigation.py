"""The navigation: patterns become the pages that they name, and no page is left out."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from typing import Any

REST = "More"
_UNLISTED = "repository/*"


def completed(nav: Sequence[Any], addresses: Iterable[str]) -> list[Any]:
    """`nav` of mkdocs.yml, its patterns replaced. What it does not name at all is under `REST`.

    Copies of the repository's files are reached by links alone.
    """
    pages = sorted(addresses)
    named = {entry for entry in _entries(nav) if "*" not in entry}
    made = [_expanded(item, pages, named) for item in nav]
    flat = [each for item in made for each in (item if isinstance(item, list) else [item])]
    seen = set(_entries(flat))
    rest = [page for page in pages if page not in seen and not fnmatch(page, _UNLISTED)]
    return [*flat, *([{REST: rest}] if rest else [])]


def _entries(nav: Any) -> Iterable[str]:
    if isinstance(nav, str):
        yield nav
    elif isinstance(nav, dict):
        for value in nav.values():
            yield from _entries(value)
    else:
        for item in nav:
            yield from _entries(item)


def _expanded(item: Any, pages: Sequence[str], named: set[str]) -> Any:
    if isinstance(item, str):
        if "*" not in item:
            return item
        return [page for page in pages if fnmatch(page, item) and page not in named]
    if isinstance(item, dict):
        return {title: _expanded(value, pages, named) for title, value in item.items()}
    inner = [_expanded(each, pages, named) for each in item]
    return [each for found in inner for each in (found if isinstance(found, list) else [found])]
