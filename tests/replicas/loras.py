"""LoRA rows and slabs for tests of everything between a row file and a layer's output."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flora.layout import AdapterLayout
from flora.lora_layout import LoraLayout
from flora.lora_row import Factors, encode_lora
from replicas.lora_slab import LoraSlab
from tests.flora.layouts import make_group, make_layout
from tests.replicas.rows import CPU


def small_lora_layout(dtype: str = "float32", rank: int = 4) -> LoraLayout:
    """A fused group of three members, and a plain one."""
    base = make_layout(make_group("qkv", 40, (21, 6, 6)), make_group("down", 19, (37,)))
    return LoraLayout(AdapterLayout("tiny-0", dtype, rank, base.groups))


def make_pairs(layout: LoraLayout, ranks: Sequence[int], seed: int = 0) -> list[Factors | None]:
    rng = np.random.default_rng(seed)
    return [
        (
            rng.normal(0, 0.5, (rank, n_in)).astype(np.float32),
            rng.normal(0, 0.5, (n_out, rank)).astype(np.float32),
        )
        if rank
        else None
        for rank, (n_in, n_out) in zip(ranks, layout.sizes, strict=True)
    ]


def write_lora(path: Path, layout: LoraLayout, ranks: Sequence[int], seed: int = 0) -> Path:
    path.write_bytes(encode_lora(layout, make_pairs(layout, ranks, seed)))
    return path


def filled_lora_slab(
    directory: Path, layout: LoraLayout, loras: Sequence[Sequence[int]], num_spare: int = 0
) -> LoraSlab:
    """A slab whose slot i + 1 holds a LoRA with the ranks `loras[i]`; the last slots are empty."""
    slab = LoraSlab(layout, len(loras) + num_spare, CPU)
    for slot, ranks in enumerate(loras, start=1):
        slab.load(slot, write_lora(directory / f"lora-{slot}", layout, ranks, seed=slot))
    return slab
