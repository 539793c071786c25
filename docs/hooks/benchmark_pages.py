"""A page for each benchmark record, and one that lists them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from benchmarks.tables import section
from docs.hooks.markdown_table import table

_DIGITS = 4


def overview() -> str:
    """The README's results, each with a link to its record's page."""
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "One question a benchmark. Each answer is a committed record, which names its",
            "command, commit, machine and versions; these pages are made from the records.",
            "`flora bench NAME` measures again, and the [log](benchmarks/LOG.md) has what was",
            "tried on the way, failures included.",
            "",
            section(),
            "",
        ]
    )


def record_page(record: Mapping[str, Any], picture: str = "") -> str:
    """One record for people. `picture` is a file beside the record."""
    parts = [f"# {record['name']}", f"**{_sentence(record['question'])}**"]
    if record["verdict"]:
        parts.append(f"{_sentence(record['verdict'])}.")
    if picture:
        parts.append(f"![{record['name']}]({picture})")
    parts += [
        f"```text\n{record['command']}\n```",
        table(("Of", "Value"), _facts(record)),
        "## Metrics\n\nMedians, with their units in their names.",
        table(("Metric", "Value", "Least and most, of how many"), _metrics(record)),
    ]
    return "\n\n".join([*parts, ""])


def _facts(record: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    """Where the numbers come from."""
    machine = record["hardware"]
    gib = machine["memory_bytes"] / 2**30
    yield "ceiling", record["ceiling"]
    yield "machine", f"{machine['cpu']}, {machine['num_cores']} cores, {gib:.0f} GiB"
    yield "GPUs", ", ".join(map(str, machine["gpus"])) or "none"
    yield "day", f"{datetime.fromisoformat(record['created_at']):%Y-%m-%d}"
    yield "commit", f"`{record['commit'][:12]}`{', with changes' if record['dirty'] else ''}"
    yield "versions", ", ".join(f"{name} {value}" for name, value in record["versions"].items())
    yield "rounds", f"{record['repeats']}, and {record['warmup']} before them that do not count"
    yield "seed", str(record["seed"])
    for name, value in record["config"].items():
        yield f"`{name}`", f"`{value}`"


def _metrics(record: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for name, value in record["metrics"].items():
        spread = record["spread"].get(name)
        told = ""
        if spread and spread["n"] > 1:
            told = f"{_number(spread['min'])} to {_number(spread['max'])}, {spread['n']}"
        yield f"`{name}`", _number(value), told


def _number(value: float) -> str:
    """Four digits that count: a median on a busy machine has no more to say."""
    if abs(value) >= 10**_DIGITS or float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.{_DIGITS}g}"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
