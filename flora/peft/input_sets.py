"""Which modules of a model may share one B. Knows no adapter's numbers."""

import warnings
from collections.abc import Iterable, Mapping

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel

from flora.linear import linear_modules
from flora.peft.config import FloraConfig
from flora.shared_inputs import listens, probe, trace_shared_inputs

InputSets = Mapping[str, str]
"""Module name -> one name for all modules that read the same input."""


def find_input_sets(model: nn.Module, config: FloraConfig) -> InputSets:
    """The sets that `config` ties; empty where it ties none.

    Siblings are found by a forward pass, unless `config.shared_inputs` names them without doubt;
    what was found is noted there. Raises ValueError when only a forward pass could tell, and none
    is possible.
    """
    if not config.tie_inputs:
        return {}
    layers = _layers(model)
    if config.shared_inputs is not None and is_certain(config.shared_inputs):
        return _named(layers, config.shared_inputs)
    traced = _traced(model, layers)
    if traced is None and config.shared_inputs:
        raise ValueError(f"shared_inputs names a module in two sets: {config.shared_inputs}")
    sets = traced or ()
    leaves = {tuple(_leaf(name) for name in names): None for names in sets if len(names) > 1}
    config.shared_inputs = [list(names) for names in leaves]
    return {name: names[0] for names in sets for name in names}


def is_certain(shared_inputs: Iterable[Iterable[str]]) -> bool:
    """Whether no last part is in two sets, as those of self- and cross-attention may be."""
    leaves = [leaf for names in shared_inputs for leaf in names]
    return len(set(leaves)) == len(leaves)


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Linear layers by the names that they have without adapters; tuned ones by their wrappers."""
    tuned = {n: m for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
    plain = {
        name: module
        for name, module in linear_modules(model).items()
        if not any(name.startswith(f"{wrapper}.") for wrapper in tuned)
    }
    layers = plain | tuned
    return {name: layers[name] for name, _ in model.named_modules() if name in layers}


def _named(layers: Iterable[str], shared_inputs: Iterable[Iterable[str]]) -> InputSets:
    set_of = {leaf: i for i, names in enumerate(shared_inputs) for leaf in names}
    return {
        name: f"{name.rpartition('.')[0]}#{set_of[_leaf(name)]}"
        for name in layers
        if _leaf(name) in set_of
    }


def _traced(
    model: nn.Module, layers: Mapping[str, nn.Module]
) -> tuple[tuple[str, ...], ...] | None:
    """Sets by one forward pass, or None where the model tells no inputs to try."""
    if not isinstance(model, PreTrainedModel):
        return None
    was_training = model.training
    model.eval()  # a pass in training mode would move running statistics
    try:
        device = next(model.parameters()).device
        # A model that listens has dummy inputs of text alone, which it does not run on.
        inputs = probe(model, device) if listens(model) else model.dummy_inputs
        arguments = {
            name: value.to(device) if isinstance(value, torch.Tensor) else value
            for name, value in inputs.items()
        }
        return trace_shared_inputs(model, layers, arguments)
    except Exception as error:  # a foreign model's forward pass may raise anything
        warnings.warn(
            f"no inputs are tied: {type(model).__name__} did not run on dummy inputs ({error});"
            " name siblings that read one input in shared_inputs",
            stacklevel=2,
        )
        return None
    finally:
        model.train(was_training)


def _leaf(name: str) -> str:
    return name.rpartition(".")[2]
