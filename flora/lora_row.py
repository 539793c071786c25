"""The bytes of one compiled LoRA. Knows where numbers lie, nothing of what they mean.

A row begins as `flora.row_head` says; it counts the rank of each member of the layout, group by
group, 0 for what the LoRA leaves alone. The numbers of a member are A [rank, in], then B
[out, rank] with the scaling in it; members follow each other with nothing between.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from contracts.errors import AdapterCorrupt, InvalidAdapter
from flora.lora_layout import LoraLayout
from flora.row import Floats, narrow, widen
from flora.row_head import Buffer, RowHead

Factors = tuple[Floats, Floats]
"""A [rank, in] and B [out, rank] of one module: W' = W + B A."""


class LoraHeader(RowHead):
    """What stands before a LoRA's numbers."""

    __slots__ = ()

    MAGIC: ClassVar[bytes] = b"LOR1"

    @property
    def ranks(self) -> tuple[int, ...]:
        return self.counts

    def check(self, layout: LoraLayout) -> None:
        """Raises AdapterCorrupt unless a row with this header fits a slot of `layout`."""
        if self.layout_digest != layout.digest or len(self.ranks) != len(layout.sizes):
            raise AdapterCorrupt("the LoRA was compiled for another base model or other settings")
        if self.dtype != layout.dtype:
            raise AdapterCorrupt(f"the LoRA holds {self.dtype}, the layout {layout.dtype}")
        if max(self.ranks) > layout.max_rank:
            raise AdapterCorrupt(
                f"the LoRA has rank {max(self.ranks)}, this engine takes {layout.max_rank}"
            )
        if self.num_numbers != layout.num_numbers(self.ranks):
            raise AdapterCorrupt("the LoRA's size does not follow from its ranks")


def encode_lora(layout: LoraLayout, factors: Sequence[Factors | None]) -> bytes:
    """The blob of one pair of factors a member, or None, rounded to the layout's dtype.

    Raises InvalidAdapter when a number does not fit the dtype, or factors do not fit the layout.
    """
    ranks = tuple(0 if pair is None else len(pair[0]) for pair in factors)
    for pair, (n_in, n_out), rank in zip(factors, layout.sizes, ranks, strict=True):
        if pair is not None and (pair[0].shape, pair[1].shape) != ((rank, n_in), (n_out, rank)):
            raise InvalidAdapter(f"factors of rank {rank} do not fit a module of {n_in} to {n_out}")
    numbers = [side.ravel() for pair in factors if pair is not None for side in pair]
    joined = np.concatenate(numbers) if numbers else np.zeros(0, np.float32)
    header = LoraHeader(layout.dtype, len(joined), layout.digest, ranks)
    return header.to_bytes() + narrow(joined, layout.dtype).tobytes()


def decode_lora(layout: LoraLayout, blob: Buffer) -> list[Factors | None]:
    """The inverse of `encode_lora`, up to the layout's dtype. Raises AdapterCorrupt."""
    header = LoraHeader.read(blob)
    header.check(layout)
    numbers = widen(memoryview(blob).cast("B")[header.header_bytes :], header.dtype)
    factors: list[Factors | None] = []
    begin = 0
    for rank, (n_in, n_out) in zip(header.ranks, layout.sizes, strict=True):
        middle, end = begin + rank * n_in, begin + rank * (n_in + n_out)
        a, b = numbers[begin:middle], numbers[middle:end]
        factors.append((a.reshape(rank, n_in), b.reshape(n_out, rank)) if rank else None)
        begin = end
    return factors


def is_lora(row: Path) -> bool:
    """Whether a row file holds a LoRA, by its first bytes; whoever loads it says if it is bad."""
    try:
        with row.open("rb", buffering=0) as file:
            return file.read(len(LoraHeader.MAGIC)) == LoraHeader.MAGIC
    except OSError:
        return False
