"""Additive LoRA around one linear layer of vLLM, and vLLM's own kernels for it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from vllm.config import VllmConfig
from vllm.lora.layers import LoRAMapping
from vllm.lora.punica_wrapper import get_punica_wrapper
from vllm.model_executor.layers.linear import LinearMethodBase

from flora.layout import AdapterLayout
from flora.lora_layout import LoraLayout
from replicas.kernels.lora import (
    LoraProducts,
    NativeLoraProducts,
    PlainLoraProducts,
    register_products,
)
from replicas.kernels.native import load_native_lora
from replicas.kernels.plain import bound
from replicas.lora_slab import LoraSlab
from replicas.slot_bank import SlotBank


class LoraLinearMethod(LinearMethodBase):
    """y = base(x) + B (A x) with the factors of each token's slot; tokens without one keep base(x).

    Reads as the base method to everybody else: unknown attributes are the base method's.
    """

    def __init__(
        self, base: Any, products: LoraProducts, products_id: int, group: int, is_bounded: bool
    ) -> None:
        self._base = base
        self._products = products
        self._products_id = products_id
        self._group = group
        self._is_bounded = is_bounded

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_base"], name)

    def create_weights(self, *args: Any, **kwargs: Any) -> None:
        self._base.create_weights(*args, **kwargs)

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x: [..., num_tokens, in] -> [..., num_tokens, out]."""
        y: torch.Tensor = self._base.apply(layer, x, bias)
        # A compiled graph would keep the branch that it saw first; it has the operator always.
        if not torch.compiler.is_compiling() and self._products.is_idle:
            return y
        flat_y, flat_x = y.view(-1, y.shape[-1]), x.reshape(-1, x.shape[-1])
        torch.ops.flora.add_lora(flat_y, flat_x, self._products_id, self._group, self._is_bounded)
        return y


class PunicaLoraProducts:
    """vLLM's kernels for many LoRA adapters in a batch, on whatever device it runs."""

    is_idle = True

    def __init__(self, slab: LoraSlab, config: VllmConfig) -> None:
        assert config.lora_config is not None
        self._slab = slab
        self._num_stacked = slab.num_slots + 1
        self._vocab_size = config.model_config.get_vocab_size()
        sizes = [[m.out_features for m in g.members] for g in slab.layout.base.groups]
        self._out_sizes = [tuple(outs) for outs in sizes]
        self._a, self._b = [tuple(a) for a in slab.a], [tuple(b) for b in slab.b]
        scheduler = config.scheduler_config
        self._wrapper = get_punica_wrapper(
            max(scheduler.max_num_batched_tokens, scheduler.max_num_seqs),
            max_batches=scheduler.max_num_seqs,
            device=slab.device,
            lora_config=replace(
                config.lora_config,
                max_loras=self._num_stacked,
                max_lora_rank=slab.layout.max_rank,
                max_cpu_loras=self._num_stacked,
            ),
        )

    def set_tokens(self, slots: Sequence[int]) -> None:
        self.is_idle = not any(slots)
        if self.is_idle:
            return
        # Here a slot is its own id; vLLM reads id 0 as no LoRA.
        ids: list[int | None] = [None, *range(1, self._num_stacked)]
        mapping = LoRAMapping(tuple(slots), (0,), is_prefill=True)
        self._wrapper.update_metadata(mapping, ids, self._num_stacked, self._vocab_size)

    def add(self, y: torch.Tensor, x: torch.Tensor, group: int, is_bounded: bool) -> None:
        out_sizes = self._out_sizes[group]
        self._wrapper.add_lora_linear(y, x, self._a[group], self._b[group], 1.0, out_sizes)
        if is_bounded:
            y.copy_(bound(y))


@dataclass(frozen=True, slots=True)
class LoraOptions:
    """The highest rank, how many adapters fit at a time, and FloraOptions' `kernel`."""

    rank: int
    num_slots: int
    kernel: str


class VllmLora:
    """The LoRA side of an engine: its layout, its slots, and what a step adds to each product."""

    def __init__(
        self, layout: AdapterLayout, options: LoraOptions, config: VllmConfig, device: torch.device
    ) -> None:
        dtype = str(config.model_config.dtype).removeprefix("torch.")
        self.layout = LoraLayout(replace(layout, dtype=dtype, max_rank=options.rank))
        slab = LoraSlab(self.layout, options.num_slots, device)
        self.bank = SlotBank(slab, options.num_slots)
        self._products = _pick_products(slab, options, config)
        self._products_id = register_products(self._products)

    def wrap(self, layer: Any, group: int, is_bounded: bool) -> None:
        """Put the LoRA of `group` around a layer, outside of whatever is there."""
        layer.quant_method = LoraLinearMethod(
            layer.quant_method, self._products, self._products_id, group, is_bounded
        )

    def set_tokens(self, adapter_ids: Sequence[int]) -> None:
        """Token t of the next step uses adapter `adapter_ids[t]`, if that is a LoRA."""
        self._products.set_tokens(self.bank.slots_of(adapter_ids))


def _pick_products(slab: LoraSlab, options: LoraOptions, config: VllmConfig) -> LoraProducts:
    if slab.device.type != "cpu":
        return PunicaLoraProducts(slab, config)
    if options.kernel == "plain" or not load_native_lora():
        return PlainLoraProducts(slab)
    return NativeLoraProducts(slab)
