"""The adapters on one device: a row a slot. Knows no adapter ids, no eviction and no vLLM."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flora.layout import AdapterLayout
from flora.shard import Shard
from replicas.cuda_copies import CudaCopies
from replicas.row_file import RowFile
from replicas.row_writer import NAN_BYTE, HostWriter, RowWriter, StagedWriter

TORCH_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "int8": torch.int8,
}


class Slab:
    """`numbers`: [num_slots + 1, row_width] in the layout's dtype; row 0 is the identity (zeros).

    `extra_pairs`: int32 [num_slots + 1, num_groups] on the host, how many pairs beyond pair 0 each
    slot has on each group; `extra_offset`, int64 alike, says where in the row they start. A row is
    filled by one contiguous copy of the blob's payload, or, with a `shard`, of the part that the
    shard's layout, `layout`, has of it. What an earlier, longer adapter left behind it cannot be
    reached, because the slot's `extra_pairs` do not count it. On a GPU rows arrive while steps run;
    a step finds those that it reads there after `before_step`.
    """

    def __init__(
        self,
        layout: AdapterLayout,
        num_slots: int,
        device: torch.device,
        shard: Shard | None = None,
        writer: Callable[[torch.Tensor], RowWriter] | None = None,
    ) -> None:
        shape = (num_slots + 1, len(layout.groups))
        self.layout = layout
        self._shard = shard
        whole = layout if shard is None else shard.whole
        self._file_layout = whole
        self._whole_row = np.empty(0 if shard is None else whole.row_bytes, np.uint8)
        self.num_slots = num_slots
        self.numbers = torch.zeros(
            (num_slots + 1, layout.row_width), dtype=TORCH_DTYPES[layout.dtype], device=device
        )
        self.extra_pairs = np.zeros(shape, np.int32)
        self.extra_offset = np.zeros(shape, np.int64)
        self._writer = (writer or make_writer)(self.numbers)

    def load(self, slot: int, path: Path) -> None:
        """Fill a slot from a row file: its header is checked, then its payload copied in one piece.

        Raises AdapterCorrupt when the file is not a row of this layout, or of the one that the
        shard is of, and OSError when it can't be read; the slot is the identity then. On a GPU
        the payload is read later: a slot whose payload cannot be read becomes not a number.
        """
        try:
            file = RowFile.open(path, self._file_layout)
            self._writer.write(slot, lambda target: self._read(file, target))
        except BaseException:
            self.wipe(slot)
            raise
        extra_pairs = file.header.extra_pairs
        self.extra_pairs[slot] = extra_pairs
        if any(extra_pairs):
            self.extra_offset[slot] = self.layout.extra_offsets(extra_pairs)[:-1]

    def wipe(self, slot: int) -> None:
        """Make a slot the identity."""
        self.extra_pairs[slot] = 0
        self._writer.set_bytes(slot, 0)

    def poison(self, slot: int) -> None:
        """Make whatever uses a slot not a number: no answer is better than another adapter's."""
        self.extra_pairs[slot] = 0
        self._writer.set_bytes(slot, NAN_BYTE)

    def before_step(self, reader: int, slots: Iterable[int]) -> None:
        """The reader's next step reads these slots; its step before has been queued."""
        self._writer.before_step(reader, slots)

    def _read(self, file: RowFile, target: NDArray[np.uint8]) -> int:
        """What the slot holds of a row file to the beginning of `target`; its bytes."""
        if self._shard is None:
            return file.read(target)
        extra_pairs, item = file.header.extra_pairs, f"u{self.layout.itemsize}"
        file.read(self._whole_row)
        self._shard.cut(extra_pairs, self._whole_row.view(item), target.view(item))
        return self.layout.num_numbers(extra_pairs) * self.layout.itemsize


def make_writer(numbers: torch.Tensor) -> RowWriter:
    """What writes to a slab's rows, by where they are."""
    if numbers.device.type == "cpu":
        return HostWriter(numbers)
    return StagedWriter(numbers, CudaCopies(numbers.device))
