"""The fLoRA adapter that is fitted: its numbers, the weights they make, its files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from contracts.errors import InvalidAdapter
from flora.adapter_config import AdapterConfig
from flora.adapter_files import AdapterFiles, tensor_name
from flora.convert.closed_form import Pairs, Problem, fit
from flora.eval.adapted_weights import Weights, base_weight
from flora.linear import linear_modules
from flora.shared_inputs import find_shared_inputs


class Student:
    """One adapter on the given modules of a frozen model; siblings that read one input share B.

    Unlike `flora.linear.FloraLinear` it multiplies the scale into the weight, so that a step costs
    the same at every rank. It starts at the identity.
    """

    def __init__(self, model: nn.Module, modules: Sequence[str], rank: int) -> None:
        self._linears = linear_modules(model)
        unknown = sorted(set(modules) - self._linears.keys())
        if unknown:
            raise InvalidAdapter(f"no fLoRA form for {unknown[0]}: it is no inner linear layer")
        chosen = ([n for n in names if n in set(modules)] for names in find_shared_inputs(model))
        self.sets = [names for names in chosen if names]
        self.rank = rank
        self._a, self._b = {}, {}
        for names in self.sets:
            widths = [base_weight(self._linears[name]).shape for name in names]
            self._b[names[0]] = nn.Parameter(torch.zeros(rank, widths[0][1]))
            for name, (out_features, _) in zip(names, widths, strict=True):
                self._a[name] = nn.Parameter(torch.zeros(rank, out_features))

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Every A and B; pair 0 as its deviation from one."""
        return [*self._a.values(), *self._b.values()]

    def numbers(self) -> list[torch.Tensor]:
        """A copy of all parameters, for `restore`."""
        return [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def restore(self, numbers: Sequence[torch.Tensor]) -> None:
        """Back to what they were."""
        for parameter, number in zip(self.parameters, numbers, strict=True):
            parameter.copy_(number)

    def weights(self) -> Weights:
        """W o (A' B) [out, in] of every module, differentiable."""
        found = {}
        for names in self.sets:
            b = _full(self._b[names[0]])
            for name in names:
                found[name] = base_weight(self._linears[name]) * (_full(self._a[name]).T @ b)
        return found

    @torch.no_grad()
    def fit(
        self,
        names: Sequence[str],
        targets: Mapping[str, torch.Tensor],
        moment: torch.Tensor,
        num_sweeps: int,
        seed: int,
    ) -> tuple[float, float]:
        """Sets one set's numbers in closed form; its loss at the identity, and after."""
        weight = torch.cat([base_weight(self._linears[name]) for name in names]).double()
        target = torch.cat([targets[name] for name in names]).double()
        problem = Problem(weight, target, moment)
        pairs = _balanced(fit(problem, self.rank, num_sweeps, seed))
        ones = Pairs(torch.ones_like(pairs.b[:1]), torch.ones_like(pairs.a[:1]))
        self._b[names[0]].copy_(_stored(pairs.b))
        widths = [self._a[name].shape[1] for name in names]
        for name, part in zip(names, torch.split(pairs.a, widths, dim=1), strict=True):
            self._a[name].copy_(_stored(part))
        return problem.loss(ones), problem.loss(pairs)

    def to_files(self, base_model: str, base_fingerprint: str) -> AdapterFiles:
        """As `flora train` writes an adapter with tied inputs."""
        tensors = {tensor_name(name, "A"): _numpy(a) for name, a in self._a.items()}
        tensors |= {tensor_name(name, "B"): _numpy(b) for name, b in self._b.items()}
        leaves = {tuple(name.rpartition(".")[2] for name in names): None for names in self.sets}
        config = AdapterConfig(
            rank=self.rank,
            parametrization="deviation",
            tie_inputs=True,
            target_modules=tuple(sorted({leaf for names in leaves for leaf in names})),
            base_model_name_or_path=base_model,
            base_fingerprint=base_fingerprint,
            shared_inputs=tuple(names for names in leaves if len(names) > 1),
        )
        return AdapterFiles(config, tensors)


def _balanced(pairs: Pairs) -> Pairs:
    """The same scales, with the root mean square of each B but the first at one.

    A step of an optimiser is as long in every number: where those of B are small and those of A
    large, a step of usual length in B would undo the start.
    """
    size = pairs.b[1:].square().mean(dim=1, keepdim=True).sqrt()
    size = torch.cat([torch.ones_like(pairs.b[:1, :1]), size.where(size > 0, 1.0)])
    return Pairs(pairs.b / size, pairs.a * size)


def _full(stored: torch.Tensor) -> torch.Tensor:
    return torch.cat([1 + stored[:1], stored[1:]])


def _stored(full: torch.Tensor) -> torch.Tensor:
    return torch.cat([full[:1] - 1, full[1:]]).float()


def _numpy(parameter: nn.Parameter) -> Any:
    return parameter.detach().numpy().astype(np.float32)
