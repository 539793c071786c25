"""Rows, and files of them, for tests of everything between a row file and a layer's output."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hypothesis import strategies as st

from flora.layout import AdapterLayout
from flora.row import Floats, encode_row
from replicas.slab import Slab
from replicas.step_state import StepState
from tests.flora.layouts import make_group, make_layout

CPU = torch.device("cpu")


def small_layout(dtype: str = "float32", max_rank: int = 4) -> AdapterLayout:
    """A fused group and a plain one; no width is a multiple of 16."""
    groups = (make_group("qkv", 40, (21, 6, 6)), make_group("down", 19, (37,)))
    return make_layout(*groups, dtype=dtype, max_rank=max_rank)


def make_numbers(layout: AdapterLayout, extra_pairs: Sequence[int], seed: int) -> Floats:
    """Normal numbers in every place of a row, padding too: what must not be read is not zero."""
    size = layout.extra_offsets(extra_pairs)[-1]
    return np.random.default_rng(seed).normal(0, 0.5, size).astype(np.float32)


def make_row(layout: AdapterLayout, extra_pairs: Sequence[int], seed: int = 0) -> bytes:
    return encode_row(layout, extra_pairs, make_numbers(layout, extra_pairs, seed))


def write_row(path: Path, layout: AdapterLayout, extra_pairs: Sequence[int], seed: int = 0) -> Path:
    path.write_bytes(make_row(layout, extra_pairs, seed))
    return path


def filled_slab(directory: Path, layout: AdapterLayout, rows: Sequence[Sequence[int]]) -> Slab:
    """A slab whose slot i + 1 holds a row with the extra pairs `rows[i]`."""
    slab = Slab(layout, len(rows), CPU)
    for slot, extra_pairs in enumerate(rows, start=1):
        slab.load(slot, write_row(directory / str(slot), layout, extra_pairs, seed=slot))
    return slab


def filled_state(
    directory: Path,
    layout: AdapterLayout,
    rows: Sequence[Sequence[int]],
    slots: Sequence[int],
    max_num_tokens: int = 64,
) -> StepState:
    """A step whose token t uses slot `slots[t]` of a `filled_slab`."""
    state = StepState(filled_slab(directory, layout, rows), max_num_tokens)
    state.set_tokens(slots)
    return state


@st.composite
def row_pairs(draw: st.DrawFn, layout: AdapterLayout) -> tuple[int, ...]:
    """Extra pairs that the layout allows, group by group."""
    counts = (st.integers(0, layout.max_extra_pairs(g)) for g in range(len(layout.groups)))
    return draw(st.tuples(*counts))
