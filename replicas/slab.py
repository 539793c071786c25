"""The adapters on the device: one row a slot. Knows no adapter ids, no eviction and no vLLM."""

import os
from pathlib import Path

import numpy as np
import torch

from contracts.errors import AdapterCorrupt
from flora.layout import AdapterLayout
from flora.row import RowHeader, read_header

TORCH_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "int8": torch.int8,
}
_HEAD_BYTES = 64


class Slab:
    """`numbers`: [num_slots + 1, row_width] in the layout's dtype; row 0 is the identity (zeros).

    `extra_pairs`: int32 [num_slots + 1, num_groups] on the host, how many pairs beyond pair 0 each
    slot has on each group; `extra_offset`, int64 alike, says where in the row they start. A row is
    filled by one contiguous copy of the blob's payload. What an earlier, longer adapter left behind
    it cannot be reached, because the slot's `extra_pairs` do not count it.
    """

    def __init__(self, layout: AdapterLayout, num_slots: int, device: torch.device) -> None:
        shape = (num_slots + 1, len(layout.groups))
        self.layout = layout
        self.num_slots = num_slots
        self.numbers = torch.zeros(
            (num_slots + 1, layout.row_width), dtype=TORCH_DTYPES[layout.dtype], device=device
        )
        self.extra_pairs = np.zeros(shape, np.int32)
        self.extra_offset = np.zeros(shape, np.int64)
        self._staging = self._make_staging()

    def load(self, slot: int, path: Path) -> None:
        """Fill a slot from a row file: its header is checked, then its payload copied in one piece.

        Raises AdapterCorrupt when the file is not a row of this layout and OSError when it can't be
        read; the slot is the identity then.
        """
        try:
            header = self._copy(slot, path)
        except BaseException:
            self.wipe(slot)
            raise
        self.extra_pairs[slot] = header.extra_pairs
        if any(header.extra_pairs):
            self.extra_offset[slot] = self.layout.extra_offsets(header.extra_pairs)[:-1]

    def wipe(self, slot: int) -> None:
        """Make a slot the identity."""
        self.extra_pairs[slot] = 0
        self.numbers[slot].zero_()

    def poison(self, slot: int) -> None:
        """Make whatever uses a slot not a number: no answer is better than another adapter's."""
        self.extra_pairs[slot] = 0
        # All bits set is not a number in every float format, and so is an int8 vector's scale.
        self.numbers[slot].view(torch.uint8).fill_(0xFF)

    def _copy(self, slot: int, path: Path) -> RowHeader:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            head = os.pread(file.fileno(), _HEAD_BYTES + 2 * len(self.layout.groups), 0)
            header = read_header(head, size)
            header.check(self.layout)
            target = self.numbers[slot] if self._staging is None else self._staging
            payload = target.view(torch.uint8).numpy().data[: header.payload_bytes]
            if os.preadv(file.fileno(), [payload], header.header_bytes) != header.payload_bytes:
                raise AdapterCorrupt(f"{path.name} ended early")
        if self._staging is not None:
            count = header.num_numbers
            self.numbers[slot, :count].copy_(self._staging[:count], non_blocking=True)
            # The one staging row is used again by the next activation.
            torch.accelerator.synchronize()
        return header

    def _make_staging(self) -> torch.Tensor | None:
        """A pinned row to copy through; None where the slab itself is host memory."""
        if self.numbers.device.type == "cpu":
            return None
        return torch.empty_like(self.numbers[0], device="cpu").pin_memory()
