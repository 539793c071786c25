"""What `flora eval` shows and writes."""

import json
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from flora.eval.tasks import Finding


def table_of(task: str, findings: Mapping[str, Finding], skipped: Mapping[str, str]) -> Table:
    """A row an estimate; a row with the reason for what was skipped."""
    table = Table("", "measure", "value", "standard error", "95 % interval", "n", title=task)
    for name, finding in findings.items():
        for measure, found in finding.estimates.items():
            interval = f"{found.low:.4f} to {found.high:.4f}"
            error = f"{found.standard_error:.4f}"
            table.add_row(name, measure, f"{found.value:.4f}", error, interval, f"{found.n}")
        for measure, value in finding.details.items():
            if isinstance(value, int | float):
                number = f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
                table.add_row(name, measure, number, "", "", "")
            elif measure == "verdicts":
                counts = ", ".join(f"{verdict} {count}" for verdict, count in value.items())
                table.add_row(name, measure, counts, "", "", "")
    for name, reason in skipped.items():
        table.add_row(name, "skipped", reason, "", "", "")
    return table


def to_json(
    task: str,
    config: Mapping[str, Any],
    findings: Mapping[str, Finding],
    skipped: Mapping[str, str],
) -> str:
    """What was asked, and all of the figures. `config` holds the subject and the seed."""
    found = {
        name: {
            **{measure: number.to_dict() for measure, number in finding.estimates.items()},
            **finding.details,
        }
        for name, finding in findings.items()
    }
    whole = {"task": task, "config": dict(config), "results": found, "skipped": dict(skipped)}
    return json.dumps(whole, indent=2) + "\n"
