"""Which linear layers of a model read one and the same input. Knows no model family by name."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from flora.linear import linear_modules

SharedInputs = tuple[tuple[str, ...], ...]


def find_shared_inputs(model: nn.Module) -> SharedInputs:
    """Sets of sibling linear layers with one input, as q/k/v or gate/up, in the model's order.

    Found by one forward pass over two tokens, and over silence where the model listens. Every
    linear layer but the output embedding is in exactly one set; layers that share nothing, or did
    not run, are alone.
    """
    device = next(model.parameters()).device
    return trace_shared_inputs(model, linear_modules(model), probe(model, device))


def trace_shared_inputs(
    model: nn.Module, layers: Mapping[str, nn.Module], arguments: Mapping[str, torch.Tensor]
) -> SharedInputs:
    """The same for any `layers` by name, found by one call of the model with `arguments`."""
    inputs: dict[str, torch.Tensor] = {}
    hooks = [
        # `inputs` keeps each tensor alive, so that no other can take its identity.
        layer.register_forward_pre_hook(_recorder(inputs, name))
        for name, layer in layers.items()
    ]
    try:
        with torch.no_grad():
            model(**arguments)
    finally:
        for hook in hooks:
            hook.remove()
    sets: dict[object, list[str]] = {}
    for name in layers:
        parent = name.rpartition(".")[0]
        key: object = (parent, _identity(inputs[name])) if name in inputs else name
        sets.setdefault(key, []).append(name)
    return tuple(tuple(names) for names in sets.values())


def listens(model: nn.Module) -> bool:
    """Whether what the model reads first is sound."""
    return getattr(model, "main_input_name", "input_ids") == "input_features"


def probe(model: nn.Module, device: torch.device) -> dict[str, torch.Tensor]:
    """The least that a model can be run on: two tokens, and silence where it listens."""
    token_ids = torch.zeros(1, 2, dtype=torch.long, device=device)
    if not listens(model):
        return {"input_ids": token_ids}
    config: Any = model.config
    silence = torch.zeros(1, config.num_mel_bins, 2 * config.max_source_positions, device=device)
    return {"input_features": silence, "decoder_input_ids": token_ids}


def _recorder(inputs: dict[str, torch.Tensor], name: str) -> Any:
    def record(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        inputs.setdefault(name, arguments[0])

    return record


def _identity(x: torch.Tensor) -> tuple[object, ...]:
    # A tensor without storage, on the meta device, is known by its object alone.
    return x.data_ptr() or id(x), tuple(x.shape), x.stride(), x._version
