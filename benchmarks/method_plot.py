"""Pictures of what adapters are worth: by method and language, and of LoRAs that were converted."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Record = Mapping[str, Any]

METHODS = {
    "base": ("none", "#000000"),
    "ia3": ("IA3", "#bbbbbb"),
    "flora1": ("fLoRA, rank 1", "#0072b2"),
    "lora1": ("LoRA, rank 1", "#888888"),
    "lora8": ("LoRA, rank 8", "#555555"),
}


def draw_methods(record: Record) -> Figure:
    """Bits per byte of unseen programs; a line spans the seeds."""
    metrics = record["metrics"]
    languages = [name.removesuffix("_base_bpb") for name in metrics if name.endswith("_base_bpb")]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(METHODS)
    for number, (method, (title, colour)) in enumerate(METHODS.items()):
        names = [f"{language}_{method}_bpb" for language in languages]
        places = np.arange(len(languages)) + number * width
        axes.bar(places, [metrics[name] for name in names], width, label=title, color=colour)
        for place, name in zip(places, names, strict=True):
            if name in record["spread"]:
                found = record["spread"][name]
                axes.vlines(place, found["min"], found["max"], color="#d55e00")
    axes.set_xticks(np.arange(len(languages)) + 0.4 - width / 2, languages)
    axes.set_ylabel("bits a byte of unseen programs")
    axes.legend(frameon=False, ncols=len(METHODS), fontsize=8, loc="upper center")
    axes.margins(y=0.18)
    return figure


def draw_convert(record: Record) -> Figure:
    """Shares of the LoRA's effect that adapters of each rank keep, each LoRA a line."""
    metrics, ranks = record["metrics"], record["config"]["ranks"]
    names = [name.removesuffix("_base_loss") for name in metrics if name.endswith("_base_loss")]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = range(len(ranks))
    for name in names:
        kept = [metrics[f"{name}_r{rank}_share"] for rank in ranks]
        (line,) = left.plot(places, kept, marker="o", label=name)
        start = [metrics[f"{name}_r{rank}_start_share"] for rank in ranks]
        left.plot(places, start, marker=".", linestyle=":", color=line.get_color())
        gain = [metrics[f"{name}_r{rank}_gain_share"] for rank in ranks]
        right.plot(places, gain, marker="o", color=line.get_color())
        scratch = metrics[f"{name}_scratch_r1_gain_share"]
        right.scatter([0], [scratch], marker="x", color=line.get_color())
    left.set_ylabel("share of the LoRA's effect\n(dotted: closed form)")
    right.set_ylabel("share of its gain on labels\n(x: trained on labels)")
    for axes in (left, right):
        axes.set_xticks(places, [f"rank {rank}" for rank in ranks])
        axes.axhline(1, color="#999999", linestyle=":", linewidth=1)
        low, high = axes.get_ylim()
        axes.set_ylim(min(0, low), 1.03 * high)
    left.legend(frameon=False)
    return figure
