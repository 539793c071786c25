"""Pictures of committed records, for people who compare: `python -m benchmarks.plots`.

The same record gives the same bytes: no date, no random ids.
"""

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from benchmarks.method_plot import draw_convert, draw_methods
from benchmarks.paper_plot import draw_paper
from benchmarks.record import RESULTS

_OURS, _OTHERS, _BASE = "#0072b2", "#999999", "#000000"
_WIRES = {"http": "HTTP", "grpc": "gRPC"}
_STYLE: Any = {
    "svg.hashsalt": "flora-serve",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Record = Mapping[str, Any]


def draw_stack(record: Record) -> Figure:
    """Tokens a second of 32 streams by server, and the share of the engine by clients."""
    metrics = record["metrics"]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    bars = [
        (title, metrics[f"{name}_tokens_per_s"], name)
        for name, title in STACK_BARS.items()
        if f"{name}_tokens_per_s" in metrics
    ]
    colours = [
        _BASE if name.startswith("engine") else _OURS if "32" in name else _OTHERS
        for _, _, name in bars
    ]
    places = np.arange(len(bars))[::-1]
    left.barh(places, [speed for _, speed, _ in bars], color=colours)
    left.set_yticks(places, [title for title, _, _ in bars])
    for place, (_, speed, _) in zip(places, bars, strict=True):
        left.text(speed, place, f" {speed:.0f}", va="center")
    left.margins(x=0.12)
    left.set_xlabel("tokens/s, 32 streams")
    for side, marker in zip(_WIRES, "os", strict=True):
        counts = [n for n in (1, 8, 32, 128) if f"{side}{n}_share_of_engine" in metrics]
        shares = [metrics[f"{side}{n}_share_of_engine"] for n in counts]
        if counts:
            right.plot(counts, shares, marker=marker, label=_WIRES[side])
    right.axhline(0.9, color=_OTHERS, linestyle=":", linewidth=1)
    right.set_xscale("log", base=2)
    right.set_xticks((1, 8, 32, 128), ("1", "8", "32", "128"))
    right.set_ylim(0, 1.1)
    right.set_xlabel("streams")
    right.set_ylabel("share of the bare engine")
    right.legend(frameon=False)
    return figure


STACK_BARS = {
    "engine32": "bare engine, 32 fLoRA",
    "http32": "flora serve, HTTP, 32 fLoRA",
    "grpc32": "flora serve, gRPC, 32 fLoRA",
    "compiled_http32": "flora serve, compiled",
    "vllm_serve_default": "vllm serve as it comes, no adapters",
    "vllm_serve": "vllm serve, engine in one process, eager, no adapters",
    "vllm_serve_compiled": "vllm serve, engine in one process, compiled, no adapters",
    "vllm_serve_lora_r8": "vllm serve, 32 LoRA rank 8",
    "ray_llm_lora_r8": "ray.serve.llm, 32 LoRA rank 8",
}


def draw_popularity(record: Record) -> Figure:
    """Hit rate of each policy as a share of the optimum's, for every trace and size."""
    metrics = record["metrics"]
    settings = [name.removesuffix("_node_hit_rate") for name in metrics if "_node_" in name]
    policies = [
        name.removeprefix(f"{settings[0]}_").removesuffix("_hit_rate")
        for name in metrics
        if name.startswith(f"{settings[0]}_") and not name.endswith("belady_hit_rate")
    ]
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(policies)
    for number, policy in enumerate(sorted(policies, key=lambda name: name != "node")):
        shares = [
            metrics[f"{setting}_{policy}_hit_rate"] / metrics[f"{setting}_belady_hit_rate"]
            for setting in settings
        ]
        places = np.arange(len(settings)) + number * width
        colour = _OURS if policy == "node" else str(0.35 + 0.5 * number / len(policies))
        axes.bar(places, shares, width, label=policy, color=colour)
    titles = [setting.replace("_", " ").replace("pct", " %") for setting in settings]
    axes.set_xticks(np.arange(len(settings)) + 0.4, titles, rotation=30, ha="right")
    axes.set_ylabel("hits, share of the optimum's")
    axes.legend(frameon=False, ncols=len(policies), fontsize=7, loc="upper center")
    axes.set_ylim(0, 1.15)
    return figure


def draw_simulator(record: Record) -> Figure:
    """Where repeated requests find their adapters, and how long first tokens take, by router."""
    metrics = record["metrics"]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, count in zip(figure.subplots(1, 2, sharex=True), (100, 1000), strict=True):
        ends = "_reuse_device_hit_rate"
        names = [n for n in metrics if n.startswith(f"zipf_{count}_") and n.endswith(ends)]
        for place, name in enumerate(names):
            router = name.removeprefix(f"zipf_{count}_").removesuffix(ends)
            wait_ms = metrics[f"zipf_{count}_{router}_ttft_p99_s"] * 1e3
            is_ours = router.startswith("flora")
            colour = _OURS if is_ours else _BASE if router == "oracle" else _OTHERS
            axes.scatter(metrics[name], wait_ms, color=colour)
            title = router.replace("_", " ")
            offset = (4, -10 if place % 2 else 4)  # neighbours are often alike
            axes.annotate(title, (metrics[name], wait_ms), offset, textcoords="offset points")
        axes.set_yscale("log")
        axes.set_xlim(0, 1.3)
        axes.set_title(f"{count} replicas", fontsize=9)
        axes.set_xlabel("repeated requests with their adapter on the device")
    figure.axes[0].set_ylabel("p99 time to first token, ms")
    return figure


PICTURES: Mapping[str, Callable[[Record], Figure]] = {
    "convert": draw_convert,
    "methods": draw_methods,
    "paper-cpu": draw_paper,
    "popularity": draw_popularity,
    "simulator": draw_simulator,
    "stack": draw_stack,
}
"""By record."""


def render(name: str, record: Record) -> bytes:
    """The record's picture as SVG."""
    with mpl.rc_context(_STYLE):
        page = io.BytesIO()
        PICTURES[name](record).savefig(page, format="svg", metadata={"Date": None})
    return page.getvalue()


def main(folder: Path = RESULTS) -> None:
    """Draw every record that is there and has a picture."""
    for name in PICTURES:
        source = folder / f"{name}.json"
        if source.exists():
            source.with_suffix(".svg").write_bytes(render(name, json.loads(source.read_text())))


if __name__ == "__main__":
    main()
