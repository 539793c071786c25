"""The fLoRA layer in plain torch: what the trainer trains and what every fast path must equal."""

import copy
from collections.abc import Mapping
from typing import Any, TypeAlias, TypeVar

import torch
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from contracts.errors import InvalidRequest
from flora.codec import Scales

BaseLinear: TypeAlias = nn.Linear | Conv1D
ModelT = TypeVar("ModelT", bound=nn.Module)


class FloraLinear(nn.Module):
    """y = sum_j A_j * (W (B_j * x)) + b over a frozen linear layer.

    x: [..., in]; y: [..., out], of x's dtype. `flora_A` [rank, out] and `flora_B` [rank, in] hold
    pair 0 as its deviation from one, further pairs as they are; a new layer is the identity. Pass
    another layer's `flora_B` to share it. Source: Wen & Chaudhuri 2024, equation 6, with the
    average over ranks folded into A and the bias added after it.
    """

    def __init__(
        self,
        base: BaseLinear,
        rank: int,
        generator: torch.Generator,
        flora_B: nn.Parameter | None = None,
    ) -> None:
        super().__init__()
        in_features, out_features = linear_features(base)
        self.base = base.requires_grad_(False)
        self.flora_A = nn.Parameter(torch.zeros(rank, out_features))
        self.flora_B = _new_b(rank, in_features, generator) if flora_B is None else flora_B

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = self.base.weight, self.base.bias
        if isinstance(self.base, Conv1D):
            weight = weight.T
        y = torch.zeros((), dtype=x.dtype)
        for b, a in zip(_values(self.flora_B), _values(self.flora_A), strict=True):
            y = y + functional.linear(x * b.to(x.dtype), weight) * a.to(x.dtype)
        return y if bias is None else y + bias


def linear_features(module: BaseLinear) -> tuple[int, int]:
    """Input and output features of a linear layer of either storage order."""
    if isinstance(module, Conv1D):
        return module.nx, module.nf
    return module.in_features, module.out_features


def linear_modules(model: nn.Module) -> dict[str, BaseLinear]:
    """Every linear layer by name, but for the output embedding ("lm_head")."""
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head
    }


@torch.no_grad()
def materialize_into(model: nn.Module, modules: Mapping[str, Scales]) -> None:
    """Replaces the weights of the named linear layers by W' = sum_j diag(A_j) W diag(B_j).

    `modules` is what `flora.codec.decompile` returns. The product is taken in float32 and rounded
    once to the weight's dtype. A weight shared with another layer is not changed there. Raises
    InvalidRequest when the model has no such linear layer.
    """
    linears = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)}
    for name, (b, a) in modules.items():
        if name not in linears:
            raise InvalidRequest(f"the model has no linear layer {name!r}")
        linear = linears[name]
        scale = torch.from_numpy(a).T @ torch.from_numpy(b)
        scale = scale.T if isinstance(linear, Conv1D) else scale
        changed = (linear.weight.float() * scale.to(linear.weight.device)).to(linear.weight.dtype)
        linear.weight = nn.Parameter(changed, requires_grad=False)


def materialized(model: ModelT, modules: Mapping[str, Scales]) -> ModelT:
    """A copy of the model with the adapter in its weights: the oracle of the engine."""
    changed = copy.deepcopy(model)
    materialize_into(changed, modules)
    return changed


def _new_b(rank: int, in_features: int, generator: torch.Generator) -> nn.Parameter:
    # Further pairs start with A = 0; were B zero as well, neither would ever get a gradient.
    b = torch.randn(rank, in_features, generator=generator)
    b[0] = 0
    return nn.Parameter(b)


def _values(stored: torch.Tensor) -> list[torch.Tensor]:
    return [1 + stored[0], *stored[1:]]
