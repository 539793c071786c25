"""fLoRA around one linear layer of vLLM, whatever its quantisation: scales inputs and outputs."""

from abc import abstractmethod
from typing import Any

import torch
from vllm._custom_ops import CPUDNNLGEMMHandler
from vllm.model_executor.layers.linear import LinearMethodBase, UnquantizedLinearMethod

from replicas.kernels import plain
from replicas.kernels.choice import Kernel
from replicas.step_state import StepState


class FloraLinearMethod(LinearMethodBase):
    """y = A * (W (B * x)) + b with the pair (A, B) of each token's slot; W x is the base method's.

    Reads as the base method to everybody else: unknown attributes are the base method's. There is
    no branch on "is an adapter active": the identity row makes it needless, and a compiled graph
    would keep the branch it saw first. Of a layer that `is_bounded` the result is finite.
    """

    def __init__(
        self, base: Any, layer: torch.nn.Module, state: StepState, group: int, is_bounded: bool
    ) -> None:
        self._base = base
        self._is_bounded = is_bounded
        self._state = state
        self._group = group
        self._beta_offset = state.slab.layout.beta_offset(group)
        self._alpha_offset = state.slab.layout.alpha_offset(group)
        bias = getattr(layer, "bias", None)
        # float32, as the kernel adds it before its one rounding.
        self._bias = None if bias is None else bias.detach().float().contiguous()
        state.products[group] = lambda x: self._base.apply(layer, x, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_base"], name)

    def create_weights(self, *args: Any, **kwargs: Any) -> None:
        self._base.create_weights(*args, **kwargs)

    def apply(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        """x: [..., num_tokens, in] -> [..., num_tokens, out]."""
        if x.dim() == 2:
            return self._scaled(layer, x, None if bias is None else self._bias)
        flat = x.reshape(-1, x.shape[-1])
        y = self._scaled(layer, flat, None if bias is None else self._bias)
        return y.view(*x.shape[:-1], y.shape[-1])

    def warm_up(self, dtype: torch.dtype) -> None:
        """Do now what the first step with activations of this dtype would wait for."""

    @abstractmethod
    def _scaled(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """`apply` on x: [num_tokens, in] -> [num_tokens, out]."""


class NativeLinearMethod(FloraLinearMethod):
    """On the CPU, by the native ops."""

    def __init__(
        self, base: Any, layer: torch.nn.Module, state: StepState, group: int, is_bounded: bool
    ) -> None:
        super().__init__(base, layer, state, group, is_bounded)
        self._slab, self._slots = state.slab.numbers, state.slots
        self._extra_rows, self._state_id = state.extra_rows, state.id
        # The overloads themselves: looking them up costs as much as a small step's arithmetic.
        self._scale_in = torch.ops.flora.scale_in.default
        self._scale_out = torch.ops.flora.scale_out.default

    def _scaled(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        scaled = self._scale_in(x, self._slab, self._slots, self._beta_offset)
        y: torch.Tensor = self._base.apply(layer, scaled, None)
        self._scale_out(
            y,
            x,
            self._slab,
            self._slots,
            bias,
            self._extra_rows,
            self._alpha_offset,
            self._is_bounded,
            self._state_id,
            self._group,
        )
        return y


class OneDnnLinearMethod(NativeLinearMethod):
    """On the CPU over vLLM's oneDNN product: scaling and product in one call."""

    def __init__(
        self, base: Any, layer: torch.nn.Module, state: StepState, group: int, is_bounded: bool
    ) -> None:
        super().__init__(base, layer, state, group, is_bounded)
        self._out_features = state.slab.layout.groups[group].out_features
        self._linear = torch.ops.flora.linear.default
        self._layer = torch.ops.flora.bind(
            self._slab,
            self._slots,
            self._extra_rows,
            onednn_product(layer),
            self._bias,
            self._beta_offset,
            self._alpha_offset,
            self._out_features,
            self._is_bounded,
            self._state_id,
            self._group,
        )

    def _scaled(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        if bias is not self._bias:  # the layer hands its bias on instead of adding it
            return super()._scaled(layer, x, bias)
        y: torch.Tensor = self._linear(x, self._layer, self._out_features)
        return y


class PlainLinearMethod(FloraLinearMethod):
    """Anywhere, by plain tensor code."""

    def _scaled(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        scaled = plain.scale_in(x, self._state, self._beta_offset)
        y = plain.scale_out(
            self._base.apply(layer, scaled, None), self._state, self._alpha_offset, bias
        )
        torch.ops.flora.add_pairs(y, x, self._state.id, self._group)
        return plain.bound(y) if self._is_bounded else y


class TritonLinearMethod(FloraLinearMethod):
    """On a GPU, by Triton kernels around one product for all pairs."""

    def __init__(
        self, base: Any, layer: torch.nn.Module, state: StepState, group: int, is_bounded: bool
    ) -> None:
        super().__init__(base, layer, state, group, is_bounded)
        # Triton is not on every machine, and takes its time to import.
        from replicas.kernels import scaled_linear

        scaled_linear.register_scaled_linear()
        self._kernels = scaled_linear
        self._out_features = state.slab.layout.groups[group].out_features
        self._linear = torch.ops.flora.scaled_linear.default

    def warm_up(self, dtype: torch.dtype) -> None:
        for bias in {id(bias): bias for bias in (None, self._bias)}.values():
            self._kernels.compile_kernels(self._state, self._group, bias, self._is_bounded, dtype)

    def _scaled(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        y: torch.Tensor = self._linear(
            x, bias, self._state.id, self._group, self._out_features, self._is_bounded
        )
        return y


def onednn_product(layer: torch.nn.Module) -> torch.Tensor | None:
    """The handle of the oneDNN product that vLLM prepared for an unquantised layer, if it did.

    vLLM keeps it in the closure of the layer's `cpu_linear`; the weight itself is gone by then.
    """
    closure = getattr(getattr(layer, "cpu_linear", None), "__closure__", None) or ()
    for cell in closure:
        if isinstance(cell.cell_contents, CPUDNNLGEMMHandler):
            handle: torch.Tensor | None = cell.cell_contents.handler_tensor
            return handle
    return None


def pick_method(layer: Any, kernel: Kernel) -> type[FloraLinearMethod]:
    """The fastest form of a kernel for a layer as vLLM has prepared it."""
    if kernel == "triton":
        return TritonLinearMethod
    if kernel == "plain":
        return PlainLinearMethod
    is_plain = isinstance(layer.quant_method, UnquantizedLinearMethod)
    return (
        OneDnnLinearMethod if is_plain and onednn_product(layer) is not None else NativeLinearMethod
    )
