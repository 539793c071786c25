"""A linear layer with fLoRA adapters by name. Knows no other layer of its model."""

import warnings
from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import nn
from transformers.pytorch_utils import Conv1D

from flora.linear import (
    BaseLinear,
    identity_b,
    linear_features,
    product,
    scaled_product,
    scaled_weight,
    to_stored,
    to_values,
)
from flora.peft.config import FloraConfig

BASE = "__base__"
"""What PEFT calls the base model in a batch of mixed adapters."""

_RANDOM_DEVIATION = 0.1


class TunedLinear(nn.Module, BaseTunerLayer):
    """y = sum_j A_j * (W (B_j * x)) + b over a frozen base layer, of the active adapters.

    `flora_A` [rank, out] and `flora_B` [rank, in] by adapter name hold pair 0 as its deviation from
    one. Several active adapters multiply: W' = W * M_1 * M_2, of rank r_1 r_2. `b_owner` names the
    module whose B an adapter uses here, its own or a sibling's. Raises ValueError on a base layer
    that is no linear layer. Source: Wen & Chaudhuri 2024, equation 6.
    """

    if TYPE_CHECKING:  # PEFT's half of the class says no types

        def __getattr__(self, name: str) -> Any: ...

    adapter_layer_names = ("flora_A", "flora_B")
    other_param_names = ("r", "b_owner")

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer: Any = base_layer
        base = self.get_base_layer()
        if not isinstance(base, nn.Linear | Conv1D) or _is_read_around(base):
            raise ValueError(
                "FLORA adapts torch.nn.Linear and transformers' Conv1D;"
                f" target module {type(base).__name__} is neither"
            )
        self.in_features, self.out_features = linear_features(base)
        self.flora_A = nn.ParameterDict()
        self.flora_B = nn.ParameterDict()
        self.r: dict[str, int] = {}
        self.b_owner: dict[str, str] = {}
        self.merged_adapters: list[str] = []
        self._unmerged_weight: torch.Tensor | None = None
        self._disable_adapters = False
        self._active_adapter: list[str] = []

    def update_layer(
        self, adapter_name: str, config: FloraConfig, owner: str, shared_b: nn.Parameter | None
    ) -> None:
        """Adds an adapter, the identity unless the config says otherwise.

        `owner` is the module that B belongs to; `shared_b` its parameter, where that is another.
        """
        a = torch.zeros(config.r, self.out_features)
        b = identity_b(config.r, self.in_features)
        if not config.init_weights:
            a += _RANDOM_DEVIATION * torch.randn_like(a)
            b[0] = _RANDOM_DEVIATION * torch.randn(self.in_features)
        self.r[adapter_name], self.b_owner[adapter_name] = config.r, owner
        self.flora_A[adapter_name] = nn.Parameter(a)
        self.flora_B[adapter_name] = nn.Parameter(b)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        if shared_b is not None:
            self.flora_B[adapter_name] = shared_b
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(
        self, x: torch.Tensor, *args: Any, adapter_names: list[str] | None = None, **kwargs: Any
    ) -> torch.Tensor:
        if self.disable_adapters and self.merged:
            self.unmerge()
        if adapter_names is not None and not self.disable_adapters:
            return self._apply_pairs(x, *self._rows(x, adapter_names))
        active = [name for name in self.active_adapters if name in self.flora_A]
        if self.disable_adapters or self.merged or not active:
            y: torch.Tensor = self.base_layer(x, *args, **kwargs)
            return y
        return self._apply_pairs(x, *self._composed(active))

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Puts adapters, the active ones by default, into the base weight.

        What is merged is rounded once, from the weight before any merge, which is kept so that
        `unmerge` is exact. Raises ValueError on a quantised weight, which would round much more,
        and with `safe_merge` on a product that is not finite.
        """
        names = [n for n in check_adapters_to_merge(self, adapter_names) if n in self.flora_A]
        if not names:
            return
        base = self.get_base_layer()
        if not base.weight.is_floating_point():
            raise ValueError(
                f"a {type(base).__name__} of {base.weight.dtype} cannot hold the merged weight"
                " exactly: load the base model without quantisation to merge"
            )
        before = base.weight.detach().clone()
        if self._unmerged_weight is not None:
            base.weight.data = self._unmerged_weight.to(before.device)
        b, a = self._composed([*self.merged_adapters, *names])
        merged = scaled_weight(base, to_values(b.detach()), to_values(a.detach()))
        if safe_merge and not torch.isfinite(merged).all():
            base.weight.data = before
            raise ValueError(
                f"NaNs detected in the merged weights. The adapter {', '.join(names)} seems to be"
                " broken"
            )
        if self._unmerged_weight is None:
            self._unmerged_weight = before.cpu()
        base.weight.data = merged
        self.merged_adapters.extend(names)

    def unmerge(self) -> None:
        """Puts the weight from before the merges back, bit by bit."""
        if self._unmerged_weight is None:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        weight = self.get_base_layer().weight
        weight.data = self._unmerged_weight.to(weight.device, weight.dtype)
        self._unmerged_weight = None
        self.merged_adapters.clear()

    def _apply_pairs(self, x: torch.Tensor, b: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        base: BaseLinear = self.get_base_layer()
        bias = base.bias
        # Offloaded and quantised layers do more in `forward` than their weight tells.
        is_plain = type(base) in (nn.Linear, Conv1D) and not hasattr(base, "_hf_hook")

        def multiply(x: torch.Tensor) -> torch.Tensor:
            if is_plain:
                return product(base, x)
            y: torch.Tensor = self.base_layer(x)
            return y if bias is None else y - bias.to(y.dtype)

        y = scaled_product(x, b, a, multiply)
        return y if bias is None else y + bias.to(y.dtype)

    def _composed(self, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Stored B and A [pairs, size] of the product of the adapters."""
        if len(names) == 1:
            return self.flora_B[names[0]], self.flora_A[names[0]]
        b, a = (
            to_stored(reduce(_pairwise, [to_values(side[name]) for name in names]))
            for side in (self.flora_B, self.flora_A)
        )
        return b, a

    def _rows(self, x: torch.Tensor, names: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Stored B and A [pairs, batch, 1.., size], a row of its own for each example of x."""
        if len(x) != len(names):
            raise ValueError(
                "Length of `adapter_names` should be the same as the number of inputs, but got"
                f" {len(names)} and {len(x)} respectively."
            )
        if self.merged:
            raise ValueError(
                "Cannot pass `adapter_names` when there are merged adapters, please call"
                " `unmerge_adapter` first."
            )
        distinct = list(dict.fromkeys(names))
        index = torch.tensor([distinct.index(name) for name in names], device=x.device)
        rank = max((self.r[name] for name in distinct if name in self.r), default=1)
        rows = []
        for side, size in ((self.flora_B, self.in_features), (self.flora_A, self.out_features)):
            table = x.new_zeros(rank, len(distinct), size)  # zero: the identity, as in slot 0
            for i, name in enumerate(distinct):
                if name in side:
                    table[: self.r[name], i] = side[name].to(table.dtype)
            rows.append(table[:, index].reshape(rank, len(x), *[1] * (x.ndim - 2), size))
        return rows[0], rows[1]

    def _move_adapter_to_device_of_base_layer(
        self, adapter_name: str, device: torch.device | None = None
    ) -> None:
        # In place, where PEFT would put new parameters: those would no longer be the siblings'.
        weight = self.get_base_layer().weight
        for side in (self.flora_A, self.flora_B):
            if adapter_name in side and side[adapter_name].device.type != "meta":
                data = side[adapter_name].data.to(device or weight.device)
                side[adapter_name].data = (
                    data.to(weight.dtype) if weight.is_floating_point() else data
                )

    def __repr__(self) -> str:
        return "flora." + super().__repr__()


def _pairwise(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first[:, None] * second[None]).flatten(0, 1)


def _is_read_around(base: nn.Module) -> bool:
    # nn.MultiheadAttention takes this layer's weight and never calls it: nothing would be adapted.
    return isinstance(base, nn.modules.linear.NonDynamicallyQuantizableLinear)
