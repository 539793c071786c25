"""Which linear layers of a model read one and the same input. Knows no model family by name."""

from typing import Any

import torch
from torch import nn

from flora.linear import linear_modules

SharedInputs = tuple[tuple[str, ...], ...]


def find_shared_inputs(model: nn.Module) -> SharedInputs:
    """Sets of sibling linear layers with one input, as q/k/v or gate/up, in the model's order.

    Found by one forward pass over two tokens. Every linear layer but the output embedding is in
    exactly one set; layers that share nothing, or did not run, are alone.
    """
    inputs: dict[str, torch.Tensor] = {}
    linears = linear_modules(model)
    hooks = [
        # `inputs` keeps each tensor alive, so that no other can take its identity.
        linear.register_forward_pre_hook(_recorder(inputs, name))
        for name, linear in linears.items()
    ]
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device))
    finally:
        for hook in hooks:
            hook.remove()
    sets: dict[object, list[str]] = {}
    for name in linears:
        parent = name.rpartition(".")[0]
        key: object = (parent, _identity(inputs[name])) if name in inputs else name
        sets.setdefault(key, []).append(name)
    return tuple(tuple(names) for names in sets.values())


def _recorder(inputs: dict[str, torch.Tensor], name: str) -> Any:
    def record(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        inputs.setdefault(name, arguments[0])

    return record


def _identity(x: torch.Tensor) -> tuple[object, ...]:
    return x.data_ptr(), tuple(x.shape), x.stride(), x._version
