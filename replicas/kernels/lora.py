"""Additive LoRA over a batch: y_t += B_t (A_t x_t), each token its own pair of factors.

Hu et al., "LoRA", ICLR 2022, equation 3, with the scaling in B. Tokens without a LoRA cost nothing,
and a step without one nothing at all.
"""

from collections.abc import Sequence
from functools import cache
from itertools import accumulate, count
from typing import Protocol
from weakref import WeakValueDictionary

import numpy as np
import torch

from replicas.kernels.plain import bound
from replicas.lora_slab import LoraSlab

_ids = count(1)
PRODUCTS: "WeakValueDictionary[int, LoraProducts]" = WeakValueDictionary()
"""Live ones by id: an operator inside a compiled graph can carry an integer, not an object."""


class LoraProducts(Protocol):
    """What the LoRA adapters of a step add to a product."""

    is_idle: bool

    def set_tokens(self, slots: Sequence[int]) -> None:
        """Token t of the next step uses `slots[t]`; 0 has no LoRA."""
        ...

    def add(self, y: torch.Tensor, x: torch.Tensor, group: int, is_bounded: bool) -> None:
        """y += the group's LoRA of x, in place, finite where it `is_bounded`.

        x: [num_tokens, in], y: [num_tokens, out]; tokens beyond the step's are padding.
        """
        ...


class PlainLoraProducts:
    """Two small products for each LoRA and module of the step: any device's, the oracle of others.

    Not for a captured CUDA graph: what there is to do is decided on the host.
    """

    is_idle = True

    def __init__(self, slab: LoraSlab) -> None:
        self._slab = slab
        self._slots: Sequence[int] = ()
        self._first_member = first_members(slab)

    def set_tokens(self, slots: Sequence[int]) -> None:
        self._slots = slots
        self.is_idle = not any(slots)

    def add(self, y: torch.Tensor, x: torch.Tensor, group: int, is_bounded: bool) -> None:
        slab, of_token = self._slab, np.asarray(self._slots)
        for slot in set(self._slots) - {0}:
            tokens = torch.from_numpy(np.flatnonzero(of_token == slot)).to(x.device)
            begin = 0
            for m, (a, b) in enumerate(zip(slab.a[group], slab.b[group], strict=True)):
                end = begin + b.shape[2]
                if rank := int(slab.ranks[slot, self._first_member[group] + m]):
                    delta = (x[tokens] @ a[slot, 0, :rank].T) @ b[slot, 0, :, :rank].T
                    y[tokens, begin:end] += delta
                begin = end
        if is_bounded:
            y.copy_(bound(y))


class NativeLoraProducts:
    """On the CPU, by the native operator: one call a layer, whatever the number of adapters.

    vLLM's own operators for a CPU copy both matrices for every token of a step that has a LoRA.
    """

    is_idle = True

    def __init__(self, slab: LoraSlab) -> None:
        self._ranks = torch.from_numpy(slab.ranks)  # the same memory
        self._a = slab.a
        self._b = [[side.transpose(2, 3) for side in sides] for sides in slab.b]
        self._first_member = first_members(slab)
        self._slots = torch.zeros(0, dtype=torch.int32)
        self._add = torch.ops.flora.add_lora_host.default

    def set_tokens(self, slots: Sequence[int]) -> None:
        self.is_idle = not any(slots)
        if not self.is_idle:
            self._slots = torch.tensor(slots, dtype=torch.int32)

    def add(self, y: torch.Tensor, x: torch.Tensor, group: int, is_bounded: bool) -> None:
        a, b, first = self._a[group], self._b[group], self._first_member[group]
        self._add(y, x, self._slots, a, b, self._ranks, first, is_bounded)


def first_members(slab: LoraSlab) -> list[int]:
    """Where each group's members begin in `slab.ranks`."""
    return [0, *accumulate(len(group.members) for group in slab.layout.base.groups)]


def register_products(products: LoraProducts) -> int:
    """An id for `torch.ops.flora.add_lora`, for as long as the products live."""
    _register_add_lora()
    products_id = next(_ids)
    PRODUCTS[products_id] = products
    return products_id


@cache
def _register_add_lora() -> None:
    """Define `torch.ops.flora.add_lora`, opaque to torch.compile. Again is nothing."""
    schema = "(Tensor(a!) y, Tensor x, int products, int group, bool is_bounded) -> ()"
    torch.library.define("flora::add_lora", schema)

    @torch.library.impl("flora::add_lora", "CompositeExplicitAutograd")
    def _(y: torch.Tensor, x: torch.Tensor, products: int, group: int, is_bounded: bool) -> None:
        own = PRODUCTS[products]
        if not own.is_idle:
            own.add(y, x, group, is_bounded)

    @torch.library.register_fake("flora::add_lora")
    def _(y: torch.Tensor, x: torch.Tensor, products: int, group: int, is_bounded: bool) -> None:
        return None
