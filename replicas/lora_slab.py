"""The LoRA adapters on the device: two matrices a module and slot. Knows no ids and no vLLM."""

import os
from pathlib import Path

import numpy as np
import torch

from contracts.errors import AdapterCorrupt
from flora.lora_layout import LoraLayout
from flora.lora_row import LoraHeader
from replicas.slab import TORCH_DTYPES

_HEAD_BYTES = 64


class LoraSlab:
    """`a[group][member]`: [num_slots + 1, 1, max_rank, in], `b`: [num_slots + 1, 1, out, max_rank]
    with the scaling in it, in the layout's dtype: what vLLM's kernels take. Slot 0 is zero. On a
    CPU `b` is stored transposed, for a kernel that adds its columns up.

    `ranks`: int32 [num_slots + 1, num_members] on the host, 0 where a slot leaves a module alone.
    What lies beyond a rank is zero.
    """

    def __init__(self, layout: LoraLayout, num_slots: int, device: torch.device) -> None:
        self.layout = layout
        self.num_slots = num_slots
        self.dtype = TORCH_DTYPES[layout.dtype]
        self.device = device
        self.ranks = np.zeros((num_slots + 1, len(layout.sizes)), np.int32)
        groups = [
            [(group.in_features, m.out_features) for m in group.members]
            for group in layout.base.groups
        ]
        rank = layout.max_rank
        self.a = [[self._stack(rank, n_in) for n_in, _ in sizes] for sizes in groups]
        self.b = [[self._stack_b(n_out, rank) for _, n_out in sizes] for sizes in groups]
        self._factors = [
            pair for a, b in zip(self.a, self.b, strict=True) for pair in zip(a, b, strict=True)
        ]
        self._staging = torch.zeros(layout.row_width, dtype=self.dtype)
        if device.type != "cpu":
            self._staging = self._staging.pin_memory()

    @property
    def num_bytes(self) -> int:
        """Device memory that all slots take."""
        return (self.num_slots + 1) * self.layout.row_width * self._staging.itemsize

    def load(self, slot: int, path: Path) -> None:
        """Fill a slot from a row file: its header is checked, then its numbers copied.

        Raises AdapterCorrupt when the file is no LoRA of this layout and OSError when it can't be
        read; the slot is the identity then.
        """
        try:
            header = self._read(path)
        except BaseException:
            self.wipe(slot)
            raise
        numbers = self._staging[: header.num_numbers].to(self.device, non_blocking=True)
        begin = 0
        for member, rank in enumerate(header.ranks):
            begin = self._set(slot, member, rank, numbers, begin)
        if self.device.type != "cpu":
            # The one staging row is used again by the next activation.
            torch.accelerator.synchronize()

    def wipe(self, slot: int) -> None:
        """Make a slot the identity."""
        for member in np.flatnonzero(self.ranks[slot]):
            self._clear(slot, int(member))

    def poison(self, slot: int) -> None:
        """Make whatever uses a slot not a number: no answer is better than another adapter's."""
        for a, b in self._factors:
            a[slot].fill_(float("nan"))
            b[slot].fill_(float("nan"))
        self.ranks[slot] = self.layout.max_rank

    def _stack(self, rows: int, columns: int) -> torch.Tensor:
        shape = (self.num_slots + 1, 1, rows, columns)
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def _stack_b(self, n_out: int, rank: int) -> torch.Tensor:
        if self.device.type == "cpu":
            return self._stack(rank, n_out).transpose(2, 3)
        return self._stack(n_out, rank)

    def _read(self, path: Path) -> LoraHeader:
        """The header of a file, whose numbers are in the staging row then."""
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            head = os.pread(file.fileno(), _HEAD_BYTES + 2 * len(self.layout.sizes), 0)
            header = LoraHeader.read(head, size)
            header.check(self.layout)
            payload = self._staging.view(torch.uint8).numpy().data[: header.payload_bytes]
            if os.preadv(file.fileno(), [payload], header.header_bytes) != header.payload_bytes:
                raise AdapterCorrupt(f"{path.name} ended early")
        return header

    def _set(self, slot: int, member: int, rank: int, numbers: torch.Tensor, begin: int) -> int:
        """One module's factors from the numbers at `begin`; where the next module's begin."""
        if self.ranks[slot, member] > rank:
            self._clear(slot, member)
        self.ranks[slot, member] = rank
        if not rank:
            return begin
        n_in, n_out = self.layout.sizes[member]
        middle, end = begin + rank * n_in, begin + rank * (n_in + n_out)
        a, b = self._factors[member]
        a[slot, 0, :rank].copy_(numbers[begin:middle].view(rank, n_in))
        b[slot, 0, :, :rank].copy_(numbers[middle:end].view(n_out, rank))
        return end

    def _clear(self, slot: int, member: int) -> None:
        for side in self._factors[member]:
            side[slot].zero_()
        self.ranks[slot, member] = 0
