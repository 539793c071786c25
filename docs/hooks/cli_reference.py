"""Every command of `flora` with its arguments and options, from the command line's own objects."""

from collections.abc import Iterable, Iterator
from typing import Any

import typer.main

from app.cli import app
from docs.hooks.markdown_table import table

_INTRODUCTION = """# Command line

Made from the commands themselves: `flora COMMAND --help` says the same. `flora bench NAME` hands
what follows to the benchmark. A refused request ends a command with 1, bad words with 2, a service
in trouble with 3, Ctrl-C with 130."""


def cli_page() -> str:
    """The page."""
    parts = [_INTRODUCTION]
    for words, command in commands(typer.main.get_command(app), "flora"):
        parts += [f"## {words}", *_command(words, command)]
    return "\n\n".join([*(part for part in parts if part), ""])


def commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    """All that can be typed, in order: the words, and the command behind them."""
    children = getattr(command, "commands", None)
    if children is None:
        yield words, command
        return
    for name in sorted(children):
        yield from commands(children[name], f"{words} {name}")


def _command(words: str, command: Any) -> Iterable[str]:
    context = command.context_class(command, info_name=words)
    usage = " ".join(command.collect_usage_pieces(context))
    yield command.help or ""
    yield f"```text\n{words} {usage}\n```"
    for kind, title in (("argument", "Argument"), ("option", "Option")):
        params = (param for param in command.params if param.param_type_name == kind)
        records = (param.get_help_record(context) for param in params)
        yield table((title, "Meaning"), ((f"`{name}`", says) for name, says in records))
