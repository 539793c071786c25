"""The reader notices what a page gets wrong."""

from pathlib import Path

import pytest

from tests.docs.reader import Reader, require_known, require_readable
from tests.docs.snippets import Snippet


def block(language: str, text: str, reason: str = "") -> Snippet:
    return Snippet("docs/x.md", 1, language, text, reason)


def test_commands_are_taken_apart_as_a_shell_does() -> None:
    text = "curl a \\\n  -d '{\n  \"b\": 1\n}'\n# a remark\nls  # another\n"
    found = block("bash", text).commands
    assert [command.words for command in found] == [
        ("curl", "a", "-d", '{\n  "b": 1\n}'),
        ("ls",),
    ]
    shown = block("console", "$ ls \\\n  -l  # all\none\ntwo\n$ cd\n").commands
    assert [(command.words, command.printed) for command in shown] == [
        (("ls", "-l"), ("one", "two")),
        (("cd",), ()),
    ]


def test_what_is_shown_has_to_be_printed_other_numbers_apart(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    printed = reader.run(block("console", "$ echo 'ada: 1,234 bytes, rank 2'\nada: 7 bytes, ...\n"))
    assert printed == "ada: 1,234 bytes, rank 2\n"
    with pytest.raises(AssertionError, match="not printed: bob"):
        reader.run(block("console", "$ echo 'ada: 1 bytes'\nbob: 1 bytes\n"))


def test_a_new_keys_id_is_the_pages_from_then_on(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    text = "$ echo flora-00000000000000aa-secret\nflora-3f0c5a1be2d94c77-...\n"
    reader.run(block("console", text))
    assert reader.run(block("bash", "echo 3f0c5a1be2d94c77\n")) == "00000000000000aa\n"


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("console", "$ false\n"),
        ("console", "$ flora import nothing nowhere\n"),
        ("bash", "exit 3\n"),
        ("python", "assert 1 == 2\n"),
    ],
)
def test_what_fails_is_heard(tmp_path: Path, language: str, text: str) -> None:
    with pytest.raises(AssertionError):
        Reader(tmp_path).run(block(language, text))


@pytest.mark.parametrize(
    "text", ["flora fly", "flora serve --wings", "make haste", "flora bench nothing"]
)
def test_what_there_is_not_is_noticed_without_running(text: str) -> None:
    (command,) = block("console", f"$ {text}\n", "needs wings").commands
    with pytest.raises(AssertionError):
        require_known(command)


@pytest.mark.parametrize("text", ["flora serve --port 1", "make check", "flora bench stall"])
def test_what_there_is_is_let_through(text: str) -> None:
    (command,) = block("console", f"$ {text}\n", "needs time").commands
    require_known(command)
    assert command.text == text


@pytest.mark.parametrize(
    ("language", "text"),
    [("toml", "[server]\nprot = 1\n"), ("json", "{"), ("yaml", "a: b: c"), ("cobol", "")],
)
def test_data_that_nobody_can_read_is_noticed(language: str, text: str) -> None:
    with pytest.raises(Exception, match=r"prot|Expecting|mapping|cobol"):
        require_readable(block(language, text))
