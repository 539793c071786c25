"""All linear layers of one decode step, over vLLM's own CPU product, without the rest of an engine.

Weights have a model's real sizes, so that a step reads far more than the caches hold and every
row is cold again when its turn comes.
"""

from time import perf_counter

import torch
import vllm._custom_ops as ops

from flora.layout import AdapterLayout
from replicas.kernels.native import load_native
from replicas.kernels.plain import register_add_pairs
from replicas.slab import Slab
from replicas.step_state import StepState


class Products:
    """The base model's products in bfloat16: random weights, one handle a group of the layout."""

    def __init__(self, layout: AdapterLayout, num_tokens: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.layout = layout
        self.inputs: list[torch.Tensor] = []
        self.handles: list[torch.Tensor] = []
        self._handlers = []  # they own the weights
        for group in layout.groups:
            shape = (group.out_features, group.in_features)
            weight = (torch.randn(shape, generator=generator) * 0.02).bfloat16()
            handler = ops.create_onednn_mm(weight.t(), 32)
            assert handler.handler_tensor is not None
            self._handlers.append(handler)
            self.handles.append(handler.handler_tensor)
            x = torch.randn(num_tokens, group.in_features, generator=generator)
            self.inputs.append(x.bfloat16())

    def step_s(self) -> float:
        """Time of the products alone."""
        started_s = perf_counter()
        for group, x, handle in zip(self.layout.groups, self.inputs, self.handles, strict=True):
            y = torch.empty(len(x), group.out_features, dtype=x.dtype)
            torch.ops._C.onednn_mm(y, x, None, handle)
        return perf_counter() - started_s


class ScaledProducts:
    """The same products with every token's row around them; `layout` decides the row's dtype."""

    def __init__(self, layout: AdapterLayout, products: Products, num_slots: int) -> None:
        register_add_pairs()
        if not load_native():
            raise RuntimeError("the native kernel needs a C++ compiler")
        self._products = products
        self._slab = Slab(layout, num_slots, torch.device("cpu"))
        # Any bytes below 60 are a small number in every dtype, and so is an int8 vector's scale.
        self._slab.numbers.view(torch.uint8)[1:].random_(0, 60)
        self._state = StepState(self._slab, len(products.inputs[0]))
        self._linear = torch.ops.flora.linear.default
        self._layers = [self._bind(layout, g) for g in range(len(layout.groups))]

    def step_s(self, slots: list[int]) -> float:
        """Time of a step whose token t uses `slots[t]`."""
        self._state.set_tokens(slots)
        started_s = perf_counter()
        for x, (layer, out_features) in zip(self._products.inputs, self._layers, strict=True):
            self._linear(x, layer, out_features)
        return perf_counter() - started_s

    def _bind(self, layout: AdapterLayout, group: int) -> tuple[int, int]:
        out_features = layout.groups[group].out_features
        layer = torch.ops.flora.bind(
            self._slab.numbers,
            self._state.slots,
            self._state.extra_rows,
            self._products.handles[group],
            None,
            layout.beta_offset(group),
            layout.alpha_offset(group),
            out_features,
            False,  # unbounded, as most layers are
            self._state.id,
            group,
        )
        return layer, out_features
