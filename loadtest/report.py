"""A run's report: one HTML page with its plots inside, and a record for machines beside it."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.record import write_record
from loadtest.control import Models
from loadtest.outcome import OK, Outcome
from loadtest.plan import ALL
from loadtest.plots import draw_curves, draw_run, render
from loadtest.quantiles import curve
from loadtest.slo import Verdict
from loadtest.summary import by_adapter, by_group, failures
from loadtest.tally import Tally

_CSS = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 62em; color: #222 }
table { border-collapse: collapse; margin: 0 0 1.5em }
td, th { padding: .2em .8em .2em 0; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
svg { max-width: 100%; height: auto }
h2 { margin-top: 1.5em }
"""
_COLUMNS = ("p50", "p90", "p95", "p99", "max")
_ROWS = {
    "ttft": "first token",
    "gap": "between events",
    "total": "whole answer",
    "lag": "sent late",
}

Curves = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Result:
    """All there is to say of one run."""

    title: str
    question: str
    command: str
    config: Mapping[str, Any]
    duration_s: float
    models: Models
    tally: Tally
    metrics: Mapping[str, float]
    verdicts: Sequence[Verdict]

    @property
    def is_met(self) -> bool:
        """Every SLO."""
        return all(verdict.is_met for verdict in self.verdicts)

    @property
    def verdict(self) -> str:
        """One line."""
        m = self.metrics
        line = (
            f"{m['requests']:.0f} requests, {m.get('failed_share', 0):.2%} failed; first token p50"
            f" {m.get('ttft_p50_s', 0):.3f} s, p95 {m.get('ttft_p95_s', 0):.3f} s;"
            f" {m.get('tokens_per_s', 0):.1f} tokens/s"
        )
        missed = [verdict for verdict in self.verdicts if not verdict.is_met]
        if missed:
            return f"{line}; missed: {', '.join(str(v.slo) for v in missed)}"
        return f"{line}; all SLOs met" if self.verdicts else line


def write_report(result: Result, folder: Path) -> tuple[Path, Path]:
    """TITLE.html and TITLE.json in `folder`; where they lie."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{result.title}.html"
    page.write_text(as_html(result), encoding="utf-8")
    adapters = by_adapter(result.tally.outcomes, result.models.name_of)
    record = write_record(
        folder / f"{result.title}.json",
        name=f"loadtest-{result.title}",
        question=result.question,
        config={
            **result.config,
            "slos": {str(v.slo): v.is_met for v in result.verdicts},
            "adapters": {name: dict(codes) for name, codes in adapters.items()},
            "failures": dict(failures(result.tally.outcomes)),
            "curves": curves_of(result.tally.outcomes),
        },
        seed=int(result.config["seed"]),
        warmup=0,
        repeats=1,
        metrics=result.metrics,
        ceiling="the SLOs",
        verdict=result.verdict,
        command=result.command,
    )
    return page, record


def curves_of(outcomes: Sequence[Outcome]) -> Curves:
    """Distributions by group, for plots of several runs together."""
    groups = by_group(outcomes)
    groups = {**(groups if len(groups) > 1 else {}), ALL: list(outcomes)}
    return {
        group: {
            "first token": curve([o.ttft_s for o in found if o.ttft_s is not None]),
            "between events": curve([gap for o in found for gap in o.gaps_s]),
            "whole answer": curve([o.total_s for o in found if o.is_ok]),
        }
        for group, found in groups.items()
    }


def as_html(result: Result) -> str:
    """The page."""
    parts = [
        f"<h1>{_text(result.title)}</h1><p>{_text(result.question)}</p>",
        f"<p><b>{_text(result.verdict)}</b></p>",
        slo_table(result.verdicts),
        "<h2>Times, in seconds</h2>",
        *(_times(result.metrics, group) for group in _groups(result.tally.outcomes)),
        render(draw_run(result.tally, result.duration_s)),
        render(draw_curves(curves_of(result.tally.outcomes))),
        "<h2>By adapter</h2>",
        _adapters(result),
        _deeds(result.tally),
        "<h2>All metrics</h2>",
        table(("metric", "value"), ((k, f"{v:.6g}") for k, v in result.metrics.items())),
        "<h2>Configuration</h2>",
        f"<pre>{_text(result.command)}</pre>",
        table(("setting", "value"), ((k, json.dumps(v)) for k, v in result.config.items())),
    ]
    return page(result.title, parts)


def page(title: str, parts: Iterable[str]) -> str:
    """A whole HTML document that needs nothing beside it."""
    body = "\n".join(parts)
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{_CSS}</style>'
    return f"<!doctype html>\n<html lang='en'><head>{head}</head><body>\n{body}\n</body></html>\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """An HTML table of texts."""
    lines = [f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows]
    titles = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    return f"<table><tr>{titles}</tr>\n" + "\n".join(lines) + "</table>"


def slo_table(verdicts: Sequence[Verdict]) -> str:
    """Each SLO with what came out."""
    if not verdicts:
        return ""
    rows = [
        (str(v.slo), "not measured" if v.value is None else f"{v.value:.4g}", _met(v.is_met))
        for v in verdicts
    ]
    return "<h2>SLOs</h2>" + table(("SLO", "measured", ""), rows)


def _groups(outcomes: Sequence[Outcome]) -> list[str]:
    found = sorted(by_group(outcomes))
    return ["", *found] if len(found) > 1 else [""]


def _times(metrics: Mapping[str, float], group: str) -> str:
    prefix = f"{group}_" if group else ""
    rows = [
        (title, *(f"{metrics[f'{prefix}{name}_{c}_s']:.4f}" for c in _COLUMNS))
        for name, title in _ROWS.items()
        if f"{prefix}{name}_p50_s" in metrics
    ]
    return table((group or "all requests", *_COLUMNS), rows)


def _adapters(result: Result) -> str:
    rows = by_adapter(result.tally.outcomes, result.models.name_of)
    found = {code for codes in rows.values() for code in codes}
    codes = sorted(found, key=lambda code: (code != OK, code))
    cells = ((name or "base", *(str(row[code]) for code in codes)) for name, row in rows.items())
    return table(("adapter", *codes), cells)


def _deeds(tally: Tally) -> str:
    if not tally.deeds:
        return ""
    rows = [
        (f"{d.at_s:.1f}", d.kind, d.what, f"{d.seconds:.3f}" if d.seconds else "", d.error)
        for d in tally.deeds
        if d.error or d.kind != "publish"
    ]
    num = sum(d.kind == "publish" and not d.error for d in tally.deeds)
    note = f"<p>{num} publishes.</p>" if num else ""
    head = ("at, s", "what", "whom", "took, s", "failed")
    return "<h2>Done to the server</h2>" + note + (table(head, rows) if rows else "")


def _met(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def _text(text: str) -> str:
    return html.escape(str(text))
