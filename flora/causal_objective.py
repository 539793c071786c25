"""The objective of causal language models: the next token, where it is a target."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from flora.train_data import IGNORED, Example, collate


class CausalObjective:
    """An `Objective` for Hugging Face's causal language models."""

    def num_tokens(self, example: Example) -> int:
        return len(example.token_ids)

    def num_targets(self, example: Example) -> int:
        return sum(example.is_target[1:])

    def loss_sums(self, model: Any, examples: Sequence[Example]) -> torch.Tensor:
        batch = collate(examples)
        device = next(model.parameters()).device
        labels = batch.labels.to(device)
        targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
        is_target = targets != IGNORED
        with _only_where(is_target, model.get_output_embeddings()):
            logits = model(
                input_ids=batch.input_ids.to(device),
                attention_mask=batch.attention_mask.to(device),
                use_cache=False,
            ).logits
        losses = functional.cross_entropy(logits.float(), targets[is_target], reduction="none")
        example_of = is_target.nonzero()[:, 0]
        return torch.zeros(len(examples), device=device).index_add(0, example_of, losses)


@contextmanager
def _only_where(is_target: torch.Tensor, head: nn.Module) -> Iterator[None]:
    """Logits [targets, vocabulary] of the chosen positions: the others' are most of the work."""

    def choose(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return arguments[0][is_target]

    handle = head.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()
