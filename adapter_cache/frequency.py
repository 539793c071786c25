"""How often digests were used lately, estimated in a fixed number of bytes. Does no I/O.

A count-min sketch with conservative update: four rows of one-byte counters, of which a digest has
one in each; the least of the four is its estimate. Sharing a counter can only raise an estimate.
"""

import struct

from contracts.adapters import Digest

_MAGIC = b"flora.frequency1"
_HEADER = struct.Struct("<16sQ")
_USES_AT = 16
_ROW_BITS = 18
_MASK = (1 << _ROW_BITS) - 1
_SECOND, _THIRD, _FOURTH = (_HEADER.size + (row << _ROW_BITS) for row in (1, 2, 3))
# A digest is uniform: 18 of its hex digits are the 72 bits that pick a counter in each row.
_HEX_DIGITS = 18
# A use adds 4, so that a quarter off one use still leaves a number.
_USE = 4
_FULL = 255 // _USE * _USE
_AGED = bytes(count * 3 // 4 for count in range(256))
# A quarter off every 8 uses a resident: a use has lost half its weight after about 19.
_USES_A_RESIDENT = 8

SKETCH_BYTES = _HEADER.size + (4 << _ROW_BITS)
EMPTY_SKETCH = _HEADER.pack(_MAGIC, 0) + bytes(4 << _ROW_BITS)


def is_sketch(data: bytes | memoryview) -> bool:
    """Whether `data` can be taken for a sketch; every counter may have any value."""
    return len(data) == SKETCH_BYTES and data[:_USES_AT] == _MAGIC


class FrequencySketch:
    """Estimates over SKETCH_BYTES of memory, which threads and processes may share.

    They may race: a lost count is one use less among many. Only `age` wants one caller at a time.
    """

    def __init__(self, buffer: memoryview) -> None:
        if not is_sketch(buffer):
            raise ValueError("the buffer holds no frequency sketch")
        self._counters = buffer

    def add(self, digest: Digest) -> None:
        """Count one use."""
        counters, cells = self._counters, _cells(digest)
        first, second, third, fourth = cells
        least = min(counters[first], counters[second], counters[third], counters[fourth])
        (uses,) = struct.unpack_from("<Q", counters, _USES_AT)
        struct.pack_into("<Q", counters, _USES_AT, uses + 1)
        if least >= _FULL:
            return
        # Raising only what is below the new estimate keeps others' shared counters low.
        least += _USE
        for cell in cells:
            if counters[cell] < least:
                counters[cell] = least

    def estimate(self, digest: Digest) -> int:
        """Four times the uses, the older the less; never too low, 252 at most."""
        first, second, third, fourth = _cells(digest)
        counters = self._counters
        return min(counters[first], counters[second], counters[third], counters[fourth])

    def age(self, num_residents: int) -> None:
        """Take a quarter off every count for each 8 uses a resident since the last time."""
        (uses,) = struct.unpack_from("<Q", self._counters, _USES_AT)
        period = _USES_A_RESIDENT * max(1, num_residents)
        counts = bytes(self._counters[_HEADER.size :])
        # Taken 17 times, it turns the highest count to 0.
        for _ in range(min(uses // period, 17)):
            counts = counts.translate(_AGED)
        if uses >= period:
            self._counters[_HEADER.size :] = counts
            struct.pack_into("<Q", self._counters, _USES_AT, uses % period)


def _cells(digest: Digest) -> tuple[int, int, int, int]:
    bits = int(digest[:_HEX_DIGITS], 16)
    return (
        _HEADER.size + (bits & _MASK),
        _SECOND + (bits >> _ROW_BITS & _MASK),
        _THIRD + (bits >> 2 * _ROW_BITS & _MASK),
        _FOURTH + (bits >> 3 * _ROW_BITS),
    )
