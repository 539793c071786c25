"""Many adapters on one torch model while they are trained: puts the layers in, takes them out."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from contracts.errors import InvalidRequest
from flora.adapter_config import AdapterConfig
from flora.adapter_files import AdapterFiles, tensor_name
from flora.linear import linear_modules
from flora.row import Floats
from flora.shared_inputs import SharedInputs, find_shared_inputs
from flora.stacked_linear import Selection, StackedLinear


class StackedAdapters:
    """Freezes `model` and wraps its target linear layers, in place; one adapter is a stack of one.

    `target_modules` are module names or their last parts; none means every linear layer but the
    output embedding. With `tie_inputs` siblings that read one input share one B. `shared_inputs`
    are those siblings, found by a forward pass unless they are given. Raises InvalidRequest when no
    layer is a target.
    """

    def __init__(
        self,
        model: nn.Module,
        num_adapters: int,
        rank: int,
        target_modules: Sequence[str] = (),
        tie_inputs: bool = True,
        seed: int = 0,
        shared_inputs: SharedInputs | None = None,
    ) -> None:
        self.num_adapters = num_adapters
        self._rank = rank
        self._tie_inputs = tie_inputs
        sets = find_shared_inputs(model) if shared_inputs is None else shared_inputs
        self._sets = _chosen(sets, target_modules)
        self._selection = Selection()
        self.layers: dict[str, StackedLinear] = {}
        generator = torch.Generator().manual_seed(seed)
        linears = linear_modules(model)
        for names in self._sets:
            shared = None
            for name in names:
                layer = StackedLinear(
                    linears[name], num_adapters, rank, generator, self._selection, shared
                )
                shared = layer.flora_B if tie_inputs else None
                self.layers[name] = layer
        model.requires_grad_(False)
        for name, layer in self.layers.items():
            model.set_submodule(name, layer)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Every A and B once, by name: [adapters, rank, features]."""
        both = {
            f"{name}.flora_{side}": getattr(layer, f"flora_{side}")
            for name, layer in self.layers.items()
            for side in ("A", "B")
        }
        seen: dict[int, str] = {}
        for name, parameter in both.items():
            seen.setdefault(id(parameter), name)
        return {name: both[name] for name in seen.values()}

    @property
    def num_parameters(self) -> int:
        """Numbers of one adapter."""
        return sum(parameter[0].numel() for parameter in self.parameters.values())

    def select(self, adapters: Sequence[int]) -> torch.Tensor:
        """Sequence i of the next batch uses adapter `adapters[i]`: int64 [sequences]."""
        device = next(iter(self.layers.values())).flora_A.device
        self._selection.index = torch.tensor(adapters, dtype=torch.long, device=device)
        return self._selection.index

    @torch.no_grad()
    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Takes the numbers that `parameters` had. Raises InvalidRequest when they are others'."""
        mine = self.parameters
        if {n: t.shape for n, t in tensors.items()} != {n: p.shape for n, p in mine.items()}:
            raise InvalidRequest("the checkpoint is of other adapters", "resume")
        for name, tensor in tensors.items():
            mine[name].copy_(tensor)

    def to_files(self, adapter: int, base_model: str, base_fingerprint: str) -> AdapterFiles:
        """One adapter as it is saved: deviations, and a tied B on the first layer of its set."""
        tensors = {}
        for names in self._sets:
            for i, name in enumerate(names):
                layer = self.layers[name]
                if i == 0 or not self._tie_inputs:
                    tensors[tensor_name(name, "B")] = _numpy(layer.flora_B[adapter])
                tensors[tensor_name(name, "A")] = _numpy(layer.flora_A[adapter])
        leaves = {tuple(name.rpartition(".")[2] for name in names): None for names in self._sets}
        config = AdapterConfig(
            rank=self._rank,
            parametrization="deviation",
            tie_inputs=self._tie_inputs,
            target_modules=tuple(sorted({leaf for names in leaves for leaf in names})),
            base_model_name_or_path=base_model,
            base_fingerprint=base_fingerprint,
            shared_inputs=tuple(n for n in leaves if len(n) > 1) if self._tie_inputs else (),
        )
        return AdapterFiles(config, tensors)


def _chosen(sets: SharedInputs, target_modules: Sequence[str]) -> list[list[str]]:
    def is_target(name: str) -> bool:
        return any(name == target or name.endswith(f".{target}") for target in target_modules)

    chosen = [[name for name in names if not target_modules or is_target(name)] for names in sets]
    if not any(chosen):
        raise InvalidRequest(
            f"no linear layer is named by {list(target_modules)}", "target_modules"
        )
    return [names for names in chosen if names]


def _numpy(tensor: torch.Tensor) -> Floats:
    return tensor.detach().cpu().numpy().astype(np.float32)
