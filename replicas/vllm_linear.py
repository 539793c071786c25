"""fLoRA around one linear layer of vLLM, whatever its quantisation: scales inputs and outputs."""

from typing import Any

import torch
from vllm.model_executor.layers.linear import LinearMethodBase

from replicas.kernels import plain
from replicas.step_state import StepState


class FloraLinearMethod(LinearMethodBase):
    """y = A * (W (B * x)) + b with the pair (A, B) of each token's slot; W x is the base method's.

    Reads as the base method to everybody else: unknown attributes are the base method's. There is
    no branch on "is an adapter active": the identity row makes it needless, and a compiled graph
    would keep the branch it saw first.
    """

    def __init__(self, base: Any, layer: torch.nn.Module, state: StepState, group: int) -> None:
        self._base = base
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

    def _scaled(
        self, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        raise NotImplementedError


class NativeLinearMethod(FloraLinearMethod):
    """On the CPU, by the native ops."""

    def __init__(self, base: Any, layer: torch.nn.Module, state: StepState, group: int) -> None:
        super().__init__(base, layer, state, group)
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
            self._state_id,
            self._group,
        )
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
        return y
