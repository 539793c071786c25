"""Somebody who types what the documents show, in a folder where the files lie that they name."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer.main
import yaml
from typer.testing import CliRunner

from app import cli
from app.bench_modules import find_bench_modules
from app.config import load_settings
from docs.hooks.formulas import to_mathml
from tests.docs.snippets import ROOT, Command, Snippet

DRAWN = ("", "text")
"""Languages of blocks that show something and say nothing to a machine."""

SHORTER: Mapping[str, Sequence[str]] = {
    "train": ("--steps", "2", "--batch-size", "2", "--warmup-steps", "0"),
    "convert": ("--num-prompts", "2", "--steps", "1"),
    "simulate": ("--replicas", "4", "--doors", "2", "--seconds", "2", "--adapters", "1000"),
}
"""What is typed behind a long command, so that it does the same in a moment."""

Program = Callable[[Sequence[str]], str]


class Reader:
    """`rewrites` are words of the documents by what stands for them here, `programs` stand for
    programs, and `ending` is put behind every `flora` command that knows its option.
    """

    def __init__(
        self,
        folder: Path,
        rewrites: Mapping[str, str] | None = None,
        programs: Mapping[str, Program] | None = None,
        ending: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.rewrites = dict(rewrites or {})
        self._programs = {"flora": self._flora, **(programs or {})}
        self._ending = ending

    def run(self, snippet: Snippet) -> str:
        """What it prints. Raises AssertionError where it fails, or prints other than is shown."""
        if snippet.language == "python":
            return self._python(snippet)
        return "".join(self._command(command) for command in snippet.commands)

    def _command(self, command: Command) -> str:
        words = [self._here(word) for word in command.words]
        program = self._programs.get(words[0])
        printed = program(words) if program else self._shell(self._here(command.text))
        self._compare(command.printed, printed)
        return printed

    def _flora(self, words: Sequence[str]) -> str:
        _, command = find_command(words)
        name = words[1]
        behind = list(SHORTER.get(name, ()))
        if self._ending and self._ending[0] in options_of(command) and self._ending[0] not in words:
            behind += self._ending
        result = CliRunner().invoke(cli.app, [*words[1:], *behind])
        assert result.exit_code == 0, f"{words}: {result.output} {result.exception!r}"
        return result.output

    def _shell(self, text: str) -> str:
        script = f'curl() {{ command curl --silent --show-error --fail-with-body "$@"; }}\n{text}'
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{text}{done.stdout}{done.stderr}"
        return done.stdout

    def _python(self, snippet: Snippet) -> str:
        code = compile(self._here(snippet.text), str(snippet), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, {"__name__": "__main__"})
        return printed.getvalue()

    def _here(self, text: str) -> str:
        for word, stand_in in self.rewrites.items():
            text = re.sub(word, stand_in, text)
        return text

    def _compare(self, shown: Sequence[str], printed: str) -> None:
        """Lines that a page shows are among those that are printed, other numbers apart.

        A new key's id, where a page goes on with it, is the page's from here on.
        """
        for line in filter(None, (each.partition("  #")[0].rstrip() for each in shown)):
            if line.startswith("{"):
                continue
            pattern = re.sub(r"[0-9a-f]{16}", "[0-9a-f]{16}", re.escape(line))
            pattern = re.sub(r"(?<![\[{\da-z-])\d[\d,.\\]*", r"[\\d,.]+", pattern)
            pattern = pattern.replace(r"\.\.\.", ".+")
            found = re.search(pattern, printed)
            assert found, f"not printed: {line}\n{printed}"
            for old, new in zip(_ids(line), _ids(found[0]), strict=True):
                self.rewrites[old] = new


def _ids(line: str) -> list[str]:
    return re.findall(r"\b[0-9a-f]{16}\b", line)


def find_command(words: Sequence[str]) -> tuple[list[str], Any]:
    """The command that is typed, and what follows its name. Raises AssertionError."""
    command: Any = typer.main.get_command(cli.app)
    rest = list(words[1:])
    while (children := getattr(command, "commands", None)) is not None:
        assert rest, f"no command: {' '.join(words)}"
        assert rest[0] in children, f"no command: {' '.join(words)}"
        command = children[rest.pop(0)]
    return rest, command


def options_of(command: Any) -> set[str]:
    params = [param for param in command.params if param.param_type_name == "option"]
    return {name for param in params for name in (*param.opts, *param.secondary_opts)}


def require_known(command: Command) -> None:
    """Without running it: programs, targets, commands, options and benchmarks that there are."""
    first, *rest = command.words
    if first == "make":
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in rest if "=" not in word} <= targets, command.text
    elif first == "flora":
        given, found = find_command(command.words)
        if command.words[1] == "bench":
            assert given[0] in find_bench_modules(), command.text
        else:
            asked = {word.partition("=")[0] for word in given if word.startswith("--")}
            assert asked <= options_of(found) | {"--help"}, command.text


def require_readable(snippet: Snippet) -> None:
    """Data and formulas: read by what reads them, settings by the settings."""
    if snippet.language == "toml":
        load_settings(None, tomllib.loads(snippet.text))
    elif snippet.language == "json":
        json.loads(snippet.text)
    elif snippet.language == "yaml":
        list(yaml.safe_load_all(snippet.text))
    elif snippet.language == "math":
        to_mathml(snippet.text)
    else:
        assert snippet.language in DRAWN, f"{snippet}: what is {snippet.language}?"


def settle(folder: Path, files: Path) -> Path:
    """A folder of one's own with the files that a page takes for granted."""
    return Path(shutil.copytree(files, folder, dirs_exist_ok=True))
