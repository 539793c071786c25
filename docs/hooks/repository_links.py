"""Links of a page: in the repository they lead to files, in the site to pages and copies of files.

Knows nothing of mkdocs. Paths are POSIX, from the repository's root; addresses are what mkdocs
calls a source path, from the site's root.
"""

import posixpath
import re
from collections.abc import Callable

Locate = Callable[[str], str | None]
"""A path in the repository to its address in the site; None: it has none."""

_FENCE = re.compile(r"^([ \t]*)(```+|~~~+).*?^\1\2[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
_OUTSIDE = re.compile(r"[a-z][a-z0-9+.-]*:|#|/", re.IGNORECASE)


def relinked(markdown: str, source: str, address: str, locate: Locate) -> str:
    """`markdown` of the file `source`, with links that work at `address`.

    A link to a path that has no address keeps its words alone. Code blocks are left as they are.
    """

    def link(match: re.Match[str]) -> str:
        mark, words, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if _OUTSIDE.match(target):
            return match[0]
        found = locate(posixpath.normpath(posixpath.join(posixpath.dirname(source), path)))
        if found is None:
            return words
        relative = posixpath.relpath(found, posixpath.dirname(address) or ".")
        return f"{mark}[{_deep(words)}]({relative}{hash_}{anchor})"

    def _deep(words: str) -> str:
        return _LINK.sub(link, words)

    return _outside_of_code(markdown, lambda text: _LINK.sub(link, text))


def _outside_of_code(markdown: str, change: Callable[[str], str]) -> str:
    """`change` of everything that is not in a fenced block."""
    parts, at = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [change(markdown[at : fence.start()]), fence[0]]
        at = fence.end()
    return "".join([*parts, change(markdown[at:])])
