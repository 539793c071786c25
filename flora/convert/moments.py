"""Second moments of what linear layers read. Knows no adapter."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from flora.convert.dialogues import Dialogue, collate

_MAX_BYTES = 2 << 30
_RIDGE = 1e-2
_ITEM_BYTES = 4


@torch.no_grad()
def input_moments(
    model: nn.Module, modules: Sequence[str], dialogues: Sequence[Dialogue], batch_size: int
) -> Iterator[tuple[str, torch.Tensor]]:
    """The mean of x x' over all tokens, float64 [in, in], module by module.

    A hundredth of its diagonal's median is added there: what the dialogues never showed is held to
    some accuracy, too, and the few features that are huge do not decide how much. As many modules
    as fit into 2 GiB are watched at a time.
    """
    for chosen in _chunks(model, modules):
        sums = _sums(model, chosen, dialogues, batch_size)
        for name in chosen:
            moment = sums.pop(name).double()
            ridge = _RIDGE * moment.diagonal().median()
            yield name, moment + ridge * torch.eye(len(moment), dtype=torch.float64)


def _sums(
    model: nn.Module, modules: Sequence[str], dialogues: Sequence[Dialogue], batch_size: int
) -> dict[str, torch.Tensor]:
    sums: dict[str, torch.Tensor] = {}
    mask = torch.zeros(0)

    def watcher(name: str) -> Any:
        def add(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            x = arguments[0][mask].float()
            product = x.T @ x
            sums[name] = product if name not in sums else sums[name].add_(product)

        return add

    hooks = [model.get_submodule(m).register_forward_pre_hook(watcher(m)) for m in modules]
    num_tokens = 0
    try:
        for begin in range(0, len(dialogues), batch_size):
            batch = collate(dialogues[begin : begin + batch_size])
            mask = batch.attention_mask.bool()
            num_tokens += int(mask.sum())
            model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: total / num_tokens for name, total in sums.items()}


def _chunks(model: nn.Module, modules: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    num_bytes = 0
    for name in modules:
        layer: Any = model.get_submodule(name)
        size = getattr(layer, "in_features", None) or layer.nx
        if chunk and num_bytes + size * size * _ITEM_BYTES > _MAX_BYTES:
            yield chunk
            chunk, num_bytes = [], 0
        chunk.append(name)
        num_bytes += size * size * _ITEM_BYTES
    if chunk:
        yield chunk
