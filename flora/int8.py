"""Rows of int8: every vector's numbers as levels of one step, its float32 scale, behind them.

value = scale * level, levels in [-127, 127], scale = max |value| / 127. The scale takes the last
four bytes of the vector's width; padding between is zero, and so is a vector of zeros with its
scale. Knows where vectors lie, nothing of files or headers.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import AdapterCorrupt, InvalidAdapter
from flora.layout import SCALE_BYTES, AdapterLayout

Levels = NDArray[np.int8]

_MAX_LEVEL = 127
# Such that 127 times it is a finite float32.
_MAX_SCALE = np.float32(3.4e38 / _MAX_LEVEL)


def quantise(
    layout: AdapterLayout, extra_pairs: Sequence[int], numbers: NDArray[np.float32]
) -> Levels:
    """`numbers` [n] of a whole row as its stored bytes [n], each within half a step.

    Numbers in padding are dropped. Raises InvalidAdapter when a number is too large or none.
    """
    if not np.isfinite(numbers).all():
        raise InvalidAdapter(f"number {int(np.argmin(np.isfinite(numbers)))} does not fit int8")
    stored = np.zeros(len(numbers), np.int8)
    exact_vectors = _vectors(layout, extra_pairs, numbers)
    for (exact, count), (short, _) in zip(
        exact_vectors, _vectors(layout, extra_pairs, stored), strict=True
    ):
        values = exact[:, :count]
        scale = (np.abs(values).max(axis=1, keepdims=True) / _MAX_LEVEL).astype("<f4")
        if scale.max() > _MAX_SCALE:
            raise InvalidAdapter(f"the number {np.abs(values).max():.3g} does not fit int8")
        levels = np.divide(values, scale, out=np.zeros_like(values), where=scale > 0)
        short[:, :count] = np.rint(levels).clip(-_MAX_LEVEL, _MAX_LEVEL)
        short[:, -SCALE_BYTES:] = scale.view(np.int8)
    return stored


def dequantise(
    layout: AdapterLayout, extra_pairs: Sequence[int], stored: Levels
) -> NDArray[np.float32]:
    """Values [n] of stored bytes [n], zero in padding. Raises AdapterCorrupt on a bad scale."""
    numbers = np.zeros(len(stored), np.float32)
    values = _vectors(layout, extra_pairs, numbers)
    for (short, count), (full, _) in zip(
        _vectors(layout, extra_pairs, stored), values, strict=True
    ):
        scale = short[:, -SCALE_BYTES:].copy().view("<f4")
        if not ((scale >= 0) & (scale <= _MAX_SCALE)).all():
            raise AdapterCorrupt("a vector's scale is no number that a row can have")
        full[:, :count] = short[:, :count] * scale
    return numbers


def _vectors(
    layout: AdapterLayout, extra_pairs: Sequence[int], row: NDArray[Any]
) -> Iterator[tuple[NDArray[Any], int]]:
    """Views [pairs, width] of the betas, then of the alphas of a group, each with its `count`."""
    ends = layout.extra_offsets(extra_pairs)
    for g, group in enumerate(layout.groups):
        beta, width = layout.beta_width(g), layout.pair_width(g)
        first = layout.beta_offset(g)
        for begin, end in ((first, first + width), (ends[g], ends[g + 1])):
            if pairs := (end - begin) // width:
                block = row[begin:end].reshape(pairs, width)
                yield block[:, :beta], group.in_features
                yield block[:, beta:], group.out_features
