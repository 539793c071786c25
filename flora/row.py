"""The bytes of one compiled adapter. Knows where numbers lie, nothing of what they mean.

    0   4s   magic b"FLR1"     4   u16  version (1)     6   u16  dtype code
    8   u32  num_groups        12  u32  header_bytes    16  u64  num_numbers    24  8 zero bytes
    32  32s  layout digest     64  u16[num_groups] extra pairs, zero padding up to header_bytes
    header_bytes  num_numbers numbers: pair 0 of every group, then the extra pairs, group by group

Little endian; header_bytes is a multiple of 64, so the payload of an aligned buffer is aligned.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import AdapterCorrupt, InvalidAdapter
from flora.int8 import dequantise, quantise
from flora.layout import ITEM_BYTES, AdapterLayout

Buffer = bytes | bytearray | memoryview
Floats = NDArray[np.float32]

MAGIC = b"FLR1"
VERSION = 1
DTYPE_NAMES = ("bfloat16", "float32", "float16", "int8")
"""Names by dtype code."""

_FIXED = struct.Struct("<4sHHIIQ8s32s")
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class RowHeader:
    """What stands before the numbers. `layout_digest` is 64 hex digits."""

    dtype: str
    header_bytes: int
    num_numbers: int
    layout_digest: str
    extra_pairs: tuple[int, ...]

    @property
    def num_groups(self) -> int:
        return len(self.extra_pairs)

    @property
    def payload_bytes(self) -> int:
        return self.num_numbers * ITEM_BYTES[self.dtype]

    def check(self, layout: AdapterLayout) -> None:
        """Raises AdapterCorrupt unless a row with this header fits a slot of `layout`."""
        if self.layout_digest != layout.digest or self.num_groups != len(layout.groups):
            raise AdapterCorrupt("the row was compiled for another layout")
        if self.dtype != layout.dtype:
            raise AdapterCorrupt(f"the row holds {self.dtype}, the layout {layout.dtype}")
        expected = layout.base_width
        if any(self.extra_pairs):  # most rows have none, and an engine's loop waits for this
            if any(n > layout.max_extra_pairs(g) for g, n in enumerate(self.extra_pairs)):
                raise AdapterCorrupt("the row has more pairs than the layout allows")
            expected = layout.extra_offsets(self.extra_pairs)[-1]
        if self.num_numbers != expected:
            raise AdapterCorrupt("the row's size does not follow from its pairs")


@dataclass(frozen=True, slots=True)
class Row:
    """A row's numbers, widened: `numbers` float32 [num_numbers]."""

    extra_pairs: tuple[int, ...]
    numbers: Floats


def read_header(buffer: Buffer, total_bytes: int | None = None) -> RowHeader:
    """The header of a row. Never touches the numbers. Raises AdapterCorrupt.

    `buffer` starts the row and holds at least its header; `total_bytes` is the whole row's size
    where the buffer is only its beginning.
    """
    view = memoryview(buffer)
    size = view.nbytes if total_bytes is None else total_bytes
    if view.nbytes < _FIXED.size:
        raise AdapterCorrupt(f"a row has at least {_FIXED.size} bytes, this one {view.nbytes}")
    magic, version, code, num_groups, header_bytes, num_numbers, zeros, digest = _FIXED.unpack_from(
        view
    )
    if magic != MAGIC or version != VERSION or any(zeros):
        raise AdapterCorrupt("not a row: wrong magic, version or reserved bytes")
    if code >= len(DTYPE_NAMES):
        raise AdapterCorrupt(f"unknown dtype code {code}")
    if header_bytes != _header_bytes(num_groups):
        raise AdapterCorrupt(f"{num_groups} groups do not take a header of {header_bytes} bytes")
    if size != header_bytes + num_numbers * ITEM_BYTES[DTYPE_NAMES[code]]:
        raise AdapterCorrupt(f"{size} bytes do not hold {num_numbers} numbers")
    if view.nbytes < _FIXED.size + 2 * num_groups:
        raise AdapterCorrupt(f"{view.nbytes} bytes do not hold the header of {num_groups} groups")
    extra_pairs = struct.unpack_from(f"<{num_groups}H", view, _FIXED.size)
    return RowHeader(DTYPE_NAMES[code], header_bytes, num_numbers, digest.hex(), extra_pairs)


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
    size = _header_bytes(len(extra_pairs))
    digest = bytes.fromhex(layout.digest)
    code = DTYPE_NAMES.index(layout.dtype)
    fixed = (MAGIC, VERSION, code, len(extra_pairs), size, len(numbers), bytes(8), digest)
    header = _FIXED.pack(*fixed) + struct.pack(f"<{len(extra_pairs)}H", *extra_pairs)
    stored = (
        quantise(layout, extra_pairs, numbers)
        if layout.dtype == "int8"
        else narrow(numbers, layout.dtype)
    )
    return header.ljust(size, b"\0") + stored.tobytes()


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


def _header_bytes(num_groups: int) -> int:
    return -(-(_FIXED.size + 2 * num_groups) // _ALIGNMENT) * _ALIGNMENT
