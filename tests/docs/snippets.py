"""The code that the documents show: every fenced block, and the commands in it."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]+) -->\n)?```(?P<language>[a-z]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SERVER = re.compile(r"127\.0\.0\.1:|flora (adapters|keys|usage)\b")


@dataclass(frozen=True, slots=True)
class Command:
    """What is typed, as a shell takes it apart, and what the page says that it prints."""

    text: str
    words: tuple[str, ...]
    printed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Snippet:
    """One block. `reason` says why it is not run, "" for those that are."""

    page: str
    line: int
    language: str
    text: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def needs_server(self) -> bool:
        return _SERVER.search(self.text) is not None

    @property
    def commands(self) -> list[Command]:
        """Of a shell's language; a block of another one has none."""
        if self.language == "console":
            return [_console_command(part) for part in re.split(r"^\$ ", self.text, flags=re.M)[1:]]
        return _shell_commands(self.text) if self.language == "bash" else []


def snippets_of(page: Path) -> list[Snippet]:
    text = page.read_text(encoding="utf-8")
    return [
        Snippet(
            page.relative_to(ROOT).as_posix(),
            text.count("\n", 0, match.start("language")) + 1,
            match["language"],
            match["text"],
            match["reason"] or "",
        )
        for match in _FENCE.finditer(text)
    ]


def all_snippets() -> list[Snippet]:
    return [snippet for page in PAGES for snippet in snippets_of(page)]


def _words(typed: str) -> tuple[str, ...]:
    """Raises ValueError where a quotation is open."""
    return tuple(shlex.split(typed.replace("\\\n", " "), comments=True))


def _console_command(part: str) -> Command:
    """A command up to the first line that does not go on, and what follows it."""
    lines = part.splitlines()
    last = next(i for i, line in enumerate(lines) if not line.endswith("\\"))
    typed = "\n".join(lines[: last + 1])
    return Command(typed, _words(typed), tuple(lines[last + 1 :]))


def _shell_commands(text: str) -> list[Command]:
    """A script's commands: a line goes on as long as a quotation or a backslash is open."""
    found, typed = [], ""
    for line in text.splitlines():
        typed += f"{line}\n"
        if line.endswith("\\"):
            continue
        try:
            words = _words(typed)
        except ValueError:
            continue
        if words:
            found.append(Command(typed, words))
        typed = ""
    assert not typed, f"a command does not end: {typed}"
    return found
