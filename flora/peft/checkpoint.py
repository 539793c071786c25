"""One adapter's tensors between a tuned model and its file. Knows no PEFT model's insides.

A file holds a B that siblings share once, on the first of them, and at rank 1 may leave out what is
the identity; the model has a parameter under every name. These are the rules of
`flora.adapter_files`, so that a server reads what PEFT writes and PEFT what `flora train` writes.
"""

from collections.abc import Iterator

import torch
from torch import nn

from flora.linear import to_stored, to_values
from flora.peft.config import FloraConfig
from flora.peft.input_sets import is_certain
from flora.peft.layer import TunedLinear

Tensors = dict[str, torch.Tensor]


def to_checkpoint(model: nn.Module, config: FloraConfig, adapter: str, tensors: Tensors) -> Tensors:
    """`tensors` by parameter name, as they are saved: a shared B once, in the file's form."""
    if is_certain(config.shared_inputs or ()):
        repeated = {
            f"{name}.flora_B.{adapter}"
            for name, layer in _layers(model, adapter)
            if not _is(name, layer.b_owner[adapter])
        }
        tensors = {name: tensor for name, tensor in tensors.items() if name not in repeated}
    if config.parametrization == "deviation":
        return tensors
    return {n: to_values(t) if ".flora_" in n else t for n, t in tensors.items()}


def from_checkpoint(
    model: nn.Module, config: FloraConfig, adapter: str, tensors: Tensors
) -> Tensors:
    """The inverse: every parameter of the adapter, siblings with one and the same B.

    Raises ValueError when a file ties inputs and yet holds different B of them. Of a higher rank
    than 1 nothing may be left out; PEFT names what is missing.
    """
    if config.parametrization == "value":
        tensors = {n: to_stored(t) if ".flora_" in n else t for n, t in tensors.items()}
    full = dict(tensors)
    for names, layers in _by_owner(model, adapter).values():
        parameters = [f"{name}.flora_B.{adapter}" for name in names]
        b = _shared(parameters, tensors)
        if b is None and layers[0].r[adapter] == 1:
            b = torch.zeros(1, layers[0].in_features)
        if b is not None:
            # One parameter object: PEFT may assign it, and siblings then still share it.
            full |= dict.fromkeys(parameters, nn.Parameter(b, requires_grad=False))
        for name, layer in zip(names, layers, strict=True):
            if layer.r[adapter] == 1:
                full.setdefault(f"{name}.flora_A.{adapter}", torch.zeros(1, layer.out_features))
    return full


def _shared(parameters: list[str], tensors: Tensors) -> torch.Tensor | None:
    stored = [tensors[name] for name in parameters if name in tensors]
    if any(not torch.equal(stored[0], other) for other in stored[1:]):
        raise ValueError(
            f"tie_inputs is true, but the file holds different tensors for {parameters}"
        )
    return stored[0] if stored else None


def _by_owner(model: nn.Module, adapter: str) -> dict[str, tuple[list[str], list[TunedLinear]]]:
    sets: dict[str, tuple[list[str], list[TunedLinear]]] = {}
    for name, layer in _layers(model, adapter):
        names, layers = sets.setdefault(layer.b_owner[adapter], ([], []))
        names.append(name)
        layers.append(layer)
    return sets


def _layers(model: nn.Module, adapter: str) -> Iterator[tuple[str, TunedLinear]]:
    for name, module in model.named_modules():
        if isinstance(module, TunedLinear) and adapter in module.r:
            yield name, module


def _is(name: str, owner: str) -> bool:
    # The names in a PeftModel begin with those of its wrappers.
    return name == owner or name.endswith(f".{owner}")
