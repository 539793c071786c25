"""The bytes of one compiled fLoRA adapter. Knows where numbers lie, nothing of what they mean.

A row begins as `flora.row_head` says; it counts the extra pairs of each group. The numbers are
pair 0 of every group, then the extra pairs, group by group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from contracts.errors import AdapterCorrupt, InvalidAdapter
from flora.int8 import dequantise, quantise
from flora.layout import AdapterLayout
from flora.row_head import Buffer, RowHead

Floats = NDArray[np.float32]


class RowHeader(RowHead):
    """What stands before a fLoRA adapter's numbers."""

    __slots__ = ()

    MAGIC: ClassVar[bytes] = b"FLR1"

    @property
    def extra_pairs(self) -> tuple[int, ...]:
        return self.counts

    def check(self, layout: AdapterLayout) -> None:
        """Raises AdapterCorrupt unless a row with this header fits a slot of `layout`."""
        if self.layout_digest != layout.digest or len(self.counts) != len(layout.groups):
            raise AdapterCorrupt("the row was compiled for another base model or other settings")
        if self.dtype != layout.dtype:
            raise AdapterCorrupt(f"the row holds {self.dtype}, the layout {layout.dtype}")
        # Most rows have none, and an engine's loop waits for this.
        if any(self.extra_pairs) and any(
            n > layout.max_extra_pairs(g) for g, n in enumerate(self.extra_pairs)
        ):
            raise AdapterCorrupt("the row has more pairs than the layout allows")
        if self.num_numbers != layout.num_numbers(self.extra_pairs):
            raise AdapterCorrupt("the row's size does not follow from its pairs")


@dataclass(frozen=True, slots=True)
class Row:
    """A row's numbers, widened: `numbers` float32 [num_numbers]."""

    extra_pairs: tuple[int, ...]
    numbers: Floats


def read_header(buffer: Buffer, total_bytes: int | None = None) -> RowHeader:
    """The header of a fLoRA row; see RowHead.read. Raises AdapterCorrupt."""
    return RowHeader.read(buffer, total_bytes)


def encode_row(layout: AdapterLayout, extra_pairs: Sequence[int], numbers: Floats) -> bytes:
    """The blob of `numbers` [base_width + extra pairs], rounded to the layout's dtype.

    Raises InvalidAdapter when pairs or size do not fit the layout, or a number not the dtype.
    """
    expected = layout.extra_offsets(extra_pairs)[-1]
    if numbers.shape != (expected,):
        raise InvalidAdapter(f"a row of {expected} numbers was expected, not {numbers.shape}")
    for g, n in enumerate(extra_pairs):
        if not 0 <= n <= layout.max_extra_pairs(g):
            raise InvalidAdapter(
                f"{layout.groups[g].name} takes {n + 1} pairs,"
                f" at most {layout.max_extra_pairs(g) + 1} are allowed"
            )
    header = RowHeader(layout.dtype, len(numbers), layout.digest, tuple(extra_pairs))
    stored = (
        quantise(layout, extra_pairs, numbers)
        if layout.dtype == "int8"
        else narrow(numbers, layout.dtype)
    )
    return header.to_bytes() + stored.tobytes()


def decode_row(layout: AdapterLayout, blob: Buffer) -> Row:
    """The inverse of `encode_row`, up to the layout's dtype. Raises AdapterCorrupt."""
    header = read_header(blob)
    header.check(layout)
    payload = memoryview(blob).cast("B")[header.header_bytes :]
    if header.dtype == "int8":
        levels = np.frombuffer(payload, np.int8)
        return Row(header.extra_pairs, dequantise(layout, header.extra_pairs, levels))
    return Row(header.extra_pairs, widen(payload, header.dtype))


def widen(payload: Buffer, dtype: str) -> Floats:
    """Little-endian numbers of a float `dtype` as float32 [n]."""
    if dtype == "bfloat16":
        return (np.frombuffer(payload, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(payload, "<f4" if dtype == "float32" else "<f2").astype(np.float32)


def narrow(numbers: Floats, dtype: str) -> NDArray[Any]:
    """`numbers` in a float `dtype`, bfloat16 as bits. Raises InvalidAdapter if one does not fit."""
    if dtype == "bfloat16":
        bits = numbers.astype("<f4", copy=False).view("<u4")
        # Nearest, ties to even: add half a unit in the last kept place, less one if it is even.
        short: NDArray[Any] = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        # A NaN's bits may wrap around above, so the input is looked at too.
        is_finite = ((short & 0x7F80) != 0x7F80) & np.isfinite(numbers)
    else:
        with np.errstate(over="ignore"):
            short = numbers.astype("<f4" if dtype == "float32" else "<f2")
        is_finite = np.isfinite(short)
    if not is_finite.all():
        raise InvalidAdapter(f"number {int(np.argmin(is_finite))} does not fit {dtype}")
    return short
