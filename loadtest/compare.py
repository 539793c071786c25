"""Records of several runs side by side: `python -m loadtest.compare A.json B.json --html C.html`.

Each record is called by its file's folder and name.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.plan import ALL
from loadtest.plots import draw_curves, render
from loadtest.report import page, table

_ROWS = (
    "requests",
    "failed_share",
    "tokens_per_s",
    "stream_tokens_per_s_p50",
    *(f"{name}_{point}_s" for name in ("ttft", "gap", "total") for point in ("p50", "p95", "p99")),
    "lag_p99_s",
)

Record = Mapping[str, Any]


def rows_of(records: Mapping[str, Record]) -> list[list[str]]:
    """Metrics that any of the records has, one row each."""
    found = []
    for name in _ROWS:
        values = [record["metrics"].get(name) for record in records.values()]
        if any(value is not None for value in values):
            found.append([name, *("" if v is None else f"{v:.4g}" for v in values)])
    return found


def as_html(title: str, records: Mapping[str, Record]) -> str:
    """One page: the table, and every run's distributions in one plot each."""
    curves = {name: record["config"]["curves"].get(ALL, {}) for name, record in records.items()}
    commands = [(name, str(record["command"])) for name, record in records.items()]
    return page(
        title,
        [
            f"<h1>{title}</h1>",
            table(("metric", *records), rows_of(records)),
            render(draw_curves(curves)),
            table(("run", "command"), commands),
        ],
    )


def as_text(records: Mapping[str, Record]) -> str:
    """The table for a terminal."""
    lines = [["metric", *records], *rows_of(records)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(records) + 1)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the records, print the table, write the page."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.compare", description=__doc__)
    parser.add_argument("records", type=Path, nargs="+")
    parser.add_argument("--html", type=Path)
    parser.add_argument("--title", default="Load tests side by side")
    args = parser.parse_args(arguments)
    records = {
        f"{path.parent.name}/{path.stem}": json.loads(path.read_text()) for path in args.records
    }
    print(as_text(records))
    if args.html:
        args.html.write_text(as_html(args.title, records), encoding="utf-8")


if __name__ == "__main__":
    main()
