"""One adapter on a torch model while it is trained: puts the layers in, takes the tensors out."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from contracts.errors import InvalidRequest
from flora.adapter_config import AdapterConfig
from flora.adapter_files import AdapterFiles, tensor_name
from flora.linear import FloraLinear, linear_modules
from flora.row import Floats
from flora.shared_inputs import find_shared_inputs


class TrainableAdapter:
    """Freezes `model` and wraps its target linear layers, in place.

    `target_modules` are module names or their last parts; none means every linear layer but the
    output embedding. With `tie_inputs` siblings that read one input share one B. Raises
    InvalidRequest when no layer is a target.
    """

    def __init__(
        self,
        model: nn.Module,
        rank: int,
        target_modules: Sequence[str],
        tie_inputs: bool,
        seed: int,
    ) -> None:
        self._rank = rank
        self._tie_inputs = tie_inputs
        self._sets = _chosen(model, target_modules)
        generator = torch.Generator().manual_seed(seed)
        linears = linear_modules(model)
        self.layers: dict[str, FloraLinear] = {}
        for names in self._sets:
            shared = None
            for name in names:
                layer = FloraLinear(linears[name], rank, generator, shared)
                shared = layer.flora_B if tie_inputs else None
                self.layers[name] = layer
        model.requires_grad_(False)
        for name, layer in self.layers.items():
            layer.flora_A.requires_grad_(True)
            layer.flora_B.requires_grad_(True)
            model.set_submodule(name, layer)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Every A and B once."""
        both = [p for layer in self.layers.values() for p in (layer.flora_A, layer.flora_B)]
        return list({id(parameter): parameter for parameter in both}.values())

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)

    def to_files(self, base_model: str, base_fingerprint: str) -> AdapterFiles:
        """The adapter as it is saved: deviations, and a tied B on the first layer of its set."""
        tensors = {}
        for names in self._sets:
            for i, name in enumerate(names):
                layer = self.layers[name]
                if i == 0 or not self._tie_inputs:
                    tensors[tensor_name(name, "B")] = _numpy(layer.flora_B)
                tensors[tensor_name(name, "A")] = _numpy(layer.flora_A)
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


def _chosen(model: nn.Module, target_modules: Sequence[str]) -> list[list[str]]:
    def is_target(name: str) -> bool:
        return any(name == target or name.endswith(f".{target}") for target in target_modules)

    sets = [
        [name for name in names if not target_modules or is_target(name)]
        for names in find_shared_inputs(model)
    ]
    if not any(sets):
        raise InvalidRequest(
            f"no linear layer is named by {list(target_modules)}", "target_modules"
        )
    return [names for names in sets if names]


def _numpy(parameter: nn.Parameter) -> Floats:
    return parameter.detach().cpu().numpy().astype(np.float32)
