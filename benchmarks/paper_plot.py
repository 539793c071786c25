"""The picture of the paper's experiments: throughput and latency by rank, a line a method."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.paper_plan import METHODS, RANKS, RATES_PER_S
from benchmarks.paper_verdict import curve, stems

_LOOKS: Mapping[str, tuple[str, str, str]] = {
    "base": ("base model", "#000000", ""),
    "flora": ("fLoRA", "#0072b2", "o"),
    "bmm": ("bmm LoRA", "#d55e00", "s"),
    "lora": ("vLLM's LoRA", "#999999", "^"),
}
_COLUMNS = 4


def draw_paper(record: Mapping[str, Any]) -> Figure:
    """A panel of tokens a second for each model, then one of time a token for each rate.

    A dashed line is where fLoRA's curve crosses bmm LoRA's, a dotted one where the paper's
    inequality has it.
    """
    metrics: Mapping[str, float] = record["metrics"]
    models = stems(metrics)
    timed = [
        (stem, rate)
        for stem in models
        for rate in RATES_PER_S
        if curve(metrics, stem, "flora", f"_{rate}rps_ms_per_token")
    ]
    num_rows = -(-(len(models) + len(timed)) // _COLUMNS)
    figure = Figure(figsize=(2.5 * _COLUMNS, 2.4 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, _COLUMNS, squeeze=False).ravel()
    for axes, stem in zip(panels, models, strict=False):
        _draw_lines(axes, metrics, stem, "_tokens_per_s")
        axes.set_ylim(bottom=0)
        axes.set_title(stem.replace("_", "-"), fontsize=9)
        for kind, style in (("measured", "--"), ("predicted", ":")):
            rank = metrics.get(f"{stem}_crossover_rank_{kind}")
            if rank is not None and rank <= RANKS[-1]:
                axes.axvline(rank, color=_LOOKS["bmm"][1], linestyle=style, linewidth=0.8)
    for axes, (stem, rate) in zip(panels[len(models) :], timed, strict=False):
        _draw_lines(axes, metrics, stem, f"_{rate}rps_ms_per_token")
        axes.set_yscale("log")  # a method that no longer keeps up queues without end
        axes.set_title(f"{stem.replace('_', '-')}, {rate} requests/s", fontsize=9)
        axes.set_ylabel("ms a token")
    for axes in panels[len(models) + len(timed) :]:
        axes.set_axis_off()
    panels[0].set_ylabel("tokens/s")
    handles, titles = panels[0].get_legend_handles_labels()
    figure.legend(handles, titles, frameon=False, loc="outside lower center", ncols=len(METHODS))
    return figure


def _draw_lines(axes: Axes, metrics: Mapping[str, float], stem: str, unit: str) -> None:
    for method, (title, colour, marker) in _LOOKS.items():
        if method == "base":
            if f"{stem}_base{unit}" in metrics:
                axes.axhline(metrics[f"{stem}_base{unit}"], color=colour, label=title)
            continue
        found = curve(metrics, stem, method, unit)
        if found:
            axes.plot(list(found), list(found.values()), color=colour, marker=marker, label=title)
    axes.set_xscale("log", base=2)
    axes.set_xticks(RANKS, [str(rank) for rank in RANKS])
    axes.set_xlabel("rank")
