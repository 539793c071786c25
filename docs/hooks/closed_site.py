"""What a built page loads: it has to come with the site, which is read without a network, too."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_HARMLESS_LINKS = {"canonical", "next", "prev", "edit"}


class _Loads(HTMLParser):
    """Collects the addresses that a browser fetches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        address = given.get(_LOADED.get(tag, ""))
        if address and given.get("rel") not in _HARMLESS_LINKS:
            self.addresses.append(address)


def foreign_loads(html: str) -> list[str]:
    """Addresses on other hosts that a browser would fetch to show this page."""
    parser = _Loads()
    parser.feed(html)
    return [a for a in parser.addresses if a.startswith(("http:", "https:", "//"))]


def pages_that_load_from_elsewhere(folder: Path) -> Iterator[str]:
    """Each such load in a built site, as `page: address`."""
    for page in sorted(folder.rglob("*.html")):
        for address in foreign_loads(page.read_text(encoding="utf-8")):
            yield f"{page.relative_to(folder)}: {address}"
