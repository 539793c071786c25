"""All pages of the site, from the repository's files, the code and the benchmark records.

Knows nothing of mkdocs: an address has its Markdown, or the file that is copied there.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from docs.hooks.benchmark_pages import overview, record_page
from docs.hooks.cli_reference import cli_page
from docs.hooks.grpc_reference import grpc_page
from docs.hooks.http_reference import http_page, openapi
from docs.hooks.repository_links import relinked

_TOP = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
_SOURCES = "repository"
_LANGUAGES = {
    ".proto": "protobuf",
    ".py": "python",
    ".json": "json",
    ".sh": "bash",
    ".toml": "toml",
}
_PICTURES = (".svg", ".png")


@dataclass(slots=True)
class Site:
    """Pages and copied files by address. Files that pages link to are taken in as they are met."""

    root: Path
    pages: dict[str, str] = field(default_factory=dict)
    copies: dict[str, Path] = field(default_factory=dict)
    _queue: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, source: str, address: str, markdown: str) -> None:
        """A page whose links are written as in the file `source` of the repository."""
        if address not in self.pages:
            self.pages[address] = markdown
            self._queue.append((source, address, markdown))

    def link(self) -> None:
        """Make every link lead to a page or a copy of this site."""
        while self._queue:
            source, address, markdown = self._queue.pop()
            self.pages[address] = relinked(markdown, source, address, self.locate)

    def locate(self, path: str) -> str | None:
        """The address of a path in the repository. Raises FileNotFoundError where there is none."""
        if path.startswith("docs/"):
            address = path.removeprefix("docs/")
            return f"{address}/index.md" if (self.root / path).is_dir() else address
        name = path.removeprefix("benchmarks/results/").removesuffix(".json")
        if path != name and f"benchmarks/{name}.md" in self.pages:
            return f"benchmarks/{name}.md"
        return _TOP.get(path) or self._taken_in(path)

    def _taken_in(self, path: str) -> str | None:
        """A file from outside of docs/: Markdown and sources as pages, pictures as they are."""
        file = self.root / path
        if file.is_dir():
            return self._taken_in(f"{path}/README.md") if (file / "README.md").exists() else None
        if file.suffix in _PICTURES:
            self.copies[f"{_SOURCES}/{path}"] = file
            return f"{_SOURCES}/{path}"
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".md":
            self.add(path, f"{_SOURCES}/{path}", text)
            return f"{_SOURCES}/{path}"
        fence = f"# {path}\n\n````{_LANGUAGES.get(file.suffix, 'text')}\n{text}````\n"
        self.add(path, f"{_SOURCES}/{path}.md", fence)
        return f"{_SOURCES}/{path}.md"


def make_site(root: Path) -> Site:
    """Everything that the site shows."""
    site = Site(root)
    for path in sorted((root / "docs").rglob("*.md")):
        name = path.relative_to(root / "docs").as_posix()
        site.add(f"docs/{name}", name, path.read_text(encoding="utf-8"))
    for name, address in _TOP.items():
        site.add(name, address, (root / name).read_text(encoding="utf-8"))
    site.add("docs/decisions/index.md", "decisions/index.md", _decisions(site))
    _add_reference(site)
    _add_benchmarks(site)
    site.link()
    return site


def _add_reference(site: Site) -> None:
    document = openapi()
    for name, text in (("http", http_page(document)), ("grpc", grpc_page()), ("cli", cli_page())):
        site.add(f"docs/reference/{name}.md", f"reference/{name}.md", text)


def _add_benchmarks(site: Site) -> None:
    paths = sorted((site.root / "benchmarks" / "results").glob("*.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    for path, record in zip(paths, records, strict=True):
        source = f"benchmarks/results/{path.stem}.md"
        picture = path.with_suffix(".svg").name if path.with_suffix(".svg").exists() else ""
        site.add(source, f"benchmarks/{path.stem}.md", record_page(record, picture))
    site.add("README.md", "benchmarks/index.md", overview())


def _decisions(site: Site) -> str:
    """A list of the decisions, by their titles."""
    found = {name: text for name, text in site.pages.items() if name.startswith("decisions/")}
    lines = [
        f"- [{text.partition(chr(10))[0].removeprefix('# ')}]({name.rpartition('/')[2]})"
        for name, text in sorted(found.items())
    ]
    head = "What could have been decided otherwise: context, choice, cost, alternatives."
    return "\n".join(["# Decisions", "", head, "", *lines, ""])
