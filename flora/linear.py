"""The fLoRA layer in plain torch: what the trainer trains and what every fast path must equal."""

import copy
from collections.abc import Callable, Mapping
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
        self.flora_B = (
            nn.Parameter(identity_b(rank, in_features, generator)) if flora_B is None else flora_B
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = scaled_product(x, self.flora_B, self.flora_A, lambda x: product(self.base, x))
        return y if self.base.bias is None else y + self.base.bias


def scaled_product(
    x: torch.Tensor,
    flora_B: torch.Tensor,
    flora_A: torch.Tensor,
    multiply: Callable[[torch.Tensor], torch.Tensor],
) -> torch.Tensor:
    """sum_j A_j * multiply(B_j * x), in the dtype that `multiply` returns.

    x: [..., in]; `flora_B` [rank, ..., in] and `flora_A` [rank, ..., out] as they are stored, of
    one row or of one row an example. Source: Wen & Chaudhuri 2024, equation 6.
    """
    y = _deviate(multiply(_deviate(x, flora_B[0])), flora_A[0])
    for b, a in zip(flora_B[1:], flora_A[1:], strict=True):
        y = y + multiply(x * b.to(x.dtype)) * a.to(y.dtype)
    return y


def product(base: BaseLinear, x: torch.Tensor) -> torch.Tensor:
    """W x, with no bias, of a layer of either storage order."""
    weight = base.weight.T if isinstance(base, Conv1D) else base.weight
    return functional.linear(x, weight)


def identity_b(
    rank: int, in_features: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """B [rank, in] of a new adapter, as stored; its A is zero, which makes it the identity.

    Further pairs start with A = 0; were B zero as well, neither would ever get a gradient.
    """
    b = torch.randn(rank, in_features, generator=generator)
    b[0] = 0
    return b


def to_values(stored: torch.Tensor) -> torch.Tensor:
    """Full values [rank, size] of a stored A or B: pair 0 plus one."""
    return torch.cat([1 + stored[:1], stored[1:]])


def to_stored(values: torch.Tensor) -> torch.Tensor:
    """The inverse of `to_values`."""
    return torch.cat([values[:1] - 1, values[1:]])


def scaled_weight(base: BaseLinear, b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    """W' = sum_j diag(A_j) W diag(B_j) of full values `b` [pairs, in] and `a` [pairs, out].

    Taken in float32 and rounded once to the weight's dtype; stored as the layer stores W.
    """
    scale = (a.float().T @ b.float()).to(base.weight.device)
    scale = scale.T if isinstance(base, Conv1D) else scale
    return (base.weight.detach().float() * scale).to(base.weight.dtype)


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
        changed = scaled_weight(linear, torch.from_numpy(b), torch.from_numpy(a))
        linear.weight = nn.Parameter(changed, requires_grad=False)


def materialized(model: ModelT, modules: Mapping[str, Scales]) -> ModelT:
    """A copy of the model with the adapter in its weights: the oracle of the engine."""
    changed = copy.deepcopy(model)
    materialize_into(changed, modules)
    return changed


def _deviate(x: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    # Not x * (1 + deviation): in bfloat16 that sum loses every deviation below 0.004.
    return torch.addcmul(x, x, deviation.to(x.dtype))
