"""Which slot each token of the running step uses. The manager writes it, linear layers read it."""

from collections.abc import Callable, Sequence
from itertools import count
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray

from replicas.further_rows import FurtherRows, send
from replicas.slab import Slab

Product = Callable[[torch.Tensor], torch.Tensor]
"""x [rows, in] -> W x [rows, out], without the bias."""

_ids = count(1)
STATES: "WeakValueDictionary[int, StepState]" = WeakValueDictionary()
"""Live states by id: an operator inside a compiled graph can carry an integer, not an object."""


class StepState:
    """`slots`: int32 [max_num_tokens] on the device, at one address for life; 0 is the identity.

    `extra_rows`: int32 [num_groups] on the host: how many further products (rows) this step's
    tokens need on each group because their adapters have more than one pair there.
    """

    def __init__(self, slab: Slab, max_num_tokens: int) -> None:
        self.id = next(_ids)
        self.slab = slab
        self.slots = torch.zeros(max_num_tokens, dtype=torch.int32, device=slab.numbers.device)
        self.extra_rows = torch.zeros(len(slab.layout.groups), dtype=torch.int32)
        self.further = FurtherRows(slab)
        self.products: dict[int, Product] = {}
        self._host_slots = np.zeros(max_num_tokens, np.int32)
        self._used_tokens = 0
        STATES[self.id] = self

    def set_tokens(self, slots: Sequence[int] | NDArray[np.int32]) -> None:
        """Token t of the next step uses `slots[t]`; tokens beyond (padding) use the identity."""
        num_tokens = len(slots)
        used = max(num_tokens, self._used_tokens)
        self._host_slots[:num_tokens] = slots
        self._host_slots[num_tokens:used] = 0
        send(torch.from_numpy(self._host_slots[:used]), self.slots[:used])
        self._used_tokens = num_tokens
        tokens_per_slot = np.bincount(
            self._host_slots[:num_tokens], minlength=self.slab.num_slots + 1
        )
        used_slots = np.flatnonzero(tokens_per_slot)
        rows = tokens_per_slot[used_slots] @ self.slab.extra_pairs[used_slots]
        self.extra_rows.copy_(torch.from_numpy(rows.astype(np.int32)))
        self.further.set_tokens(self._host_slots, used_slots)
        self.slab.before_step(self.id, used_slots.tolist())

    def extra_pairs_of(self, group: int, num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The step's further pairs on a group, a row each: token index and start in the flat slab.

        Both int64 [extra_rows[group]]; B of the pair starts there, A after the group's beta width.
        """
        slab, slots = self.slab, self._host_slots[:num_tokens]
        pairs = slab.extra_pairs[slots, group]
        tokens = np.repeat(np.arange(num_tokens), pairs)
        first = np.repeat(np.cumsum(pairs) - pairs, pairs)
        nth = np.arange(len(tokens)) - first
        starts = slots[tokens].astype(np.int64) * slab.numbers.stride(0)
        starts += slab.extra_offset[slots[tokens], group]
        starts += nth * slab.layout.pair_width(group)
        return torch.from_numpy(tokens), torch.from_numpy(starts)
