"""Where a step's further rows go: those that pairs beyond the first add to a product."""

import numpy as np
import torch
from numpy.typing import NDArray

from replicas.slab import Slab


class FurtherRows:
    """The tables by which kernels on a device find a token's further pairs and their rows.

    Made of what the host knows of slots and tokens, only when a kernel asks, and once a step for
    all groups whose adapters have as many pairs. Copies to the device are ordered behind the steps
    that still read what they replace.
    """

    def __init__(self, slab: Slab) -> None:
        self._slab = slab
        self._device = slab.numbers.device
        shape = (2, slab.num_slots + 1, len(slab.layout.groups))
        self._table = torch.zeros(shape, dtype=torch.int32, device=self._device)
        self._is_current = False
        self._slots: NDArray[np.int32] = np.zeros(0, np.int32)
        self._used: NDArray[np.int64] = np.zeros(0, np.int64)
        self._first: dict[tuple[bytes, int], torch.Tensor] = {}

    def set_tokens(self, slots: NDArray[np.int32], used: NDArray[np.int64]) -> None:
        """A step begins: the slot of every token, padding too, and those slots once each."""
        self._slots, self._used = slots, used
        self._is_current = False
        self._first.clear()

    @property
    def table(self) -> torch.Tensor:
        """int32 [2, num_slots + 1, num_groups] on the device: how many further pairs, and where in
        the row they start.
        """
        if not self._is_current:
            parts = (self._slab.extra_pairs, self._slab.extra_offset)
            send(torch.from_numpy(np.stack(parts).astype(np.int32)), self._table)
            self._is_current = True
        return self._table

    def first_rows(self, group: int, num_tokens: int) -> torch.Tensor:
        """Where each token's further rows begin among the step's: int32 [num_tokens]."""
        pairs = self._slab.extra_pairs[:, group]
        key = pairs[self._used].tobytes(), num_tokens
        if key not in self._first:
            counts = pairs[self._slots[:num_tokens]]
            first = torch.from_numpy((np.cumsum(counts) - counts).astype(np.int32))
            self._first[key] = send(first, torch.empty_like(first, device=self._device))
        return self._first[key]


def send(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Copy from the host without waiting for the device; `source` may be overwritten at once."""
    if target.device.type == "cpu":
        return target.copy_(source)
    # The pinned copy is its allocator's, which gives the memory away once the device has read it.
    return target.copy_(source.pin_memory(), non_blocking=True)
