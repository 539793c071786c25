"""The pictures of a report, as SVG. The same samples give the same bytes."""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from loadtest.outcome import Outcome
from loadtest.quantiles import CURVE_POINTS, quantile
from loadtest.summary import by_group
from loadtest.tally import Deed, Reading, Tally

_STYLE: Any = {
    "svg.hashsalt": "flora-serve",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999", "#e69f00", "#56b4e9", "#000000")
_BINS = 60
_MOST_DOTS = 4000

Draw = Callable[[Axes, Tally, float], None]


def render(figure: Figure) -> str:
    """An `<svg>` element."""
    with mpl.rc_context(_STYLE):
        page = io.StringIO()
        figure.savefig(page, format="svg", metadata={"Date": None})
    text = page.getvalue()
    return text[text.index("<svg") :]


def draw_run(tally: Tally, duration_s: float) -> Figure:
    """First tokens, tokens a second and running requests over time; with readings, those too."""
    draws: list[Draw] = [_first_tokens, _tokens, _running]
    draws += [_memory, _files] if tally.readings else []
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 2.1 * len(draws)), layout="constrained")
        rows = figure.subplots(len(draws), 1, sharex=True, squeeze=False)[:, 0]
        for axes, draw in zip(rows, draws, strict=True):
            draw(axes, tally, duration_s)
            _mark(axes, tally.deeds)
        rows[-1].set_xlabel("seconds since the start")
    return figure


def draw_curves(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> Figure:
    """Distributions of times by name, one picture a measure: the share of samples below a time."""
    measures = sorted({measure for found in curves.values() for measure in found})
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9, 2.8), layout="constrained")
        places = figure.subplots(1, max(len(measures), 1), squeeze=False)[0]
        shares = np.arange(CURVE_POINTS + 1) / CURVE_POINTS
        for axes, measure in zip(places, measures, strict=False):
            for number, (name, found) in enumerate(curves.items()):
                if values := found.get(measure):
                    colour = _COLOURS[number % len(_COLOURS)]
                    axes.plot(np.maximum(values, 1e-4), shares, label=name, color=colour)
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=12))
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlabel(f"{measure}, seconds")
        places[0].set_ylabel("share of samples")
        if places[0].lines:
            places[0].legend(frameon=False)
    return figure


def _first_tokens(axes: Axes, tally: Tally, duration_s: float) -> None:
    for number, (group, found) in enumerate(sorted(by_group(tally.outcomes).items())):
        dots = [(o.at_s, o.ttft_s) for o in found if o.ttft_s is not None]
        thin = dots[:: len(dots) // _MOST_DOTS + 1]
        colour = _COLOURS[number % len(_COLOURS)]
        if thin:
            axes.plot(*zip(*thin, strict=True), ".", markersize=2, color=colour, label=group)
    bins: dict[int, list[float]] = {}
    for outcome in tally.outcomes:
        if outcome.ttft_s is not None:
            bins.setdefault(_bin_of(outcome.at_s, duration_s), []).append(outcome.ttft_s)
    places = [(number + 0.5) * duration_s / _BINS for number in sorted(bins)]
    for share, line in ((0.5, "-"), (0.95, ":")):
        values = [quantile(bins[number], share) for number in sorted(bins)]
        axes.plot(places, values, line, color="black", linewidth=1, label=f"p{share * 100:.0f}")
    failed = [o.at_s for o in tally.outcomes if not o.is_ok]
    if failed:
        axes.plot(failed, [0.0] * len(failed), "x", color="red", markersize=5, label="failed")
    axes.set_ylabel("first token, s")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=7, ncols=6, loc="upper left")


def _tokens(axes: Axes, tally: Tally, duration_s: float) -> None:
    """An answer's tokens are spread evenly between its first and its last one."""
    until_s = max([duration_s, *(o.ended_s for o in tally.outcomes)])
    edges = np.linspace(0, until_s, _BINS + 1)
    counts = np.zeros(_BINS)
    for outcome in tally.outcomes:
        if outcome.ttft_s is not None:
            counts += _spread(outcome, edges)
    axes.stairs(counts / np.diff(edges), edges, color=_COLOURS[0])
    axes.set_ylabel("tokens/s")


def _spread(outcome: Outcome, edges: "np.ndarray[Any, np.dtype[np.float64]]") -> Any:
    begin_s = outcome.at_s + (outcome.ttft_s or 0.0)
    length_s = max(outcome.ended_s - begin_s, 1e-6)
    passed = np.clip((edges - begin_s) / length_s, 0, 1)
    return np.diff(passed) * outcome.num_tokens


def _running(axes: Axes, tally: Tally, duration_s: float) -> None:
    changes = [(o.at_s, 1) for o in tally.outcomes] + [(o.ended_s, -1) for o in tally.outcomes]
    changes.sort()
    if changes:
        times, steps = zip(*changes, strict=True)
        axes.step(times, np.cumsum(steps), where="post", color=_COLOURS[0], linewidth=1)
    axes.set_ylabel("unanswered")


def _memory(axes: Axes, tally: Tally, duration_s: float) -> None:
    _by_role(axes, tally.readings, lambda reading: reading.rss_bytes / 1e6)
    axes.set_ylabel("memory, MB")


def _files(axes: Axes, tally: Tally, duration_s: float) -> None:
    _by_role(axes, tally.readings, lambda reading: reading.num_fds)
    axes.set_ylabel("descriptors")


def _by_role(axes: Axes, readings: Iterable[Reading], value: Callable[[Reading], float]) -> None:
    lines: dict[str, list[tuple[float, float]]] = {}
    for reading in readings:
        lines.setdefault(reading.role, []).append((reading.at_s, value(reading)))
    for number, (role, points) in enumerate(sorted(lines.items())):
        colour = _COLOURS[number % len(_COLOURS)]
        axes.plot(*zip(*points, strict=True), label=role, color=colour, linewidth=1)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=7, ncols=8, loc="lower left", bbox_to_anchor=(0, 1))


def _mark(axes: Axes, deeds: Sequence[Deed]) -> None:
    """Kills are lines; publishes are too many."""
    for deed in deeds:
        if deed.kind == "kill":
            axes.axvline(deed.at_s, color="red", linewidth=0.8)


def _bin_of(at_s: float, duration_s: float) -> int:
    return min(int(at_s / duration_s * _BINS), _BINS - 1)
