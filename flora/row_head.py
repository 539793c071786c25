"""How every row begins, whatever kind of adapter it holds. Knows no layout and no numbers.

    0   4s   magic, the kind       4   u16  version (1)     6   u16  dtype code
    8   u32  num_counts            12  u32  header_bytes    16  u64  num_numbers    24  8 zero bytes
    32  32s  layout digest         64  u16[num_counts] counts, zero padding up to header_bytes
    header_bytes  num_numbers numbers

Little endian; header_bytes is a multiple of 64, so the payload of an aligned buffer is aligned.
What is counted follows from the kind.
"""

import struct
from dataclasses import dataclass
from typing import ClassVar, Self

from contracts.errors import AdapterCorrupt
from flora.layout import ITEM_BYTES

Buffer = bytes | bytearray | memoryview

VERSION = 1
DTYPE_NAMES = ("bfloat16", "float32", "float16", "int8")
"""Names by dtype code."""

_FIXED = struct.Struct("<4sHHIIQ8s32s")
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class RowHead:
    """What stands before the numbers; a subclass a kind. `layout_digest` is 64 hex digits."""

    MAGIC: ClassVar[bytes] = b""

    dtype: str
    num_numbers: int
    layout_digest: str
    counts: tuple[int, ...]

    @property
    def header_bytes(self) -> int:
        return head_bytes(len(self.counts))

    @property
    def payload_bytes(self) -> int:
        return self.num_numbers * ITEM_BYTES[self.dtype]

    def to_bytes(self) -> bytes:
        """The inverse of `read`."""
        digest, code = bytes.fromhex(self.layout_digest), DTYPE_NAMES.index(self.dtype)
        num_counts, size = len(self.counts), self.header_bytes
        fixed = (VERSION, code, num_counts, size, self.num_numbers, bytes(8), digest)
        counts = struct.pack(f"<{num_counts}H", *self.counts)
        return (_FIXED.pack(self.MAGIC, *fixed) + counts).ljust(size, b"\0")

    @classmethod
    def read(cls, buffer: Buffer, total_bytes: int | None = None) -> Self:
        """The head of a row of this kind. Never touches the numbers. Raises AdapterCorrupt.

        `buffer` starts the row and holds at least its header; `total_bytes` is the whole row's size
        where the buffer is only its beginning.
        """
        view = memoryview(buffer)
        size = view.nbytes if total_bytes is None else total_bytes
        if view.nbytes < _FIXED.size:
            raise AdapterCorrupt(f"a row has at least {_FIXED.size} bytes, this one {view.nbytes}")
        magic, version, code, num_counts, header_bytes, num_numbers, zeros, digest = (
            _FIXED.unpack_from(view)
        )
        if magic != cls.MAGIC or version != VERSION or any(zeros):
            raise AdapterCorrupt("not a row: wrong magic, version or reserved bytes")
        if code >= len(DTYPE_NAMES):
            raise AdapterCorrupt(f"unknown dtype code {code}")
        if header_bytes != head_bytes(num_counts):
            raise AdapterCorrupt(
                f"{num_counts} counts do not take a header of {header_bytes} bytes"
            )
        if size != header_bytes + num_numbers * ITEM_BYTES[DTYPE_NAMES[code]]:
            raise AdapterCorrupt(f"{size} bytes do not hold {num_numbers} numbers")
        if view.nbytes < _FIXED.size + 2 * num_counts:
            raise AdapterCorrupt(f"{view.nbytes} bytes do not hold a header of {num_counts} counts")
        counts = struct.unpack_from(f"<{num_counts}H", view, _FIXED.size)
        return cls(DTYPE_NAMES[code], num_numbers, digest.hex(), counts)


def head_bytes(num_counts: int) -> int:
    """Bytes before the numbers of a row that counts so much."""
    return -(-(_FIXED.size + 2 * num_counts) // _ALIGNMENT) * _ALIGNMENT
