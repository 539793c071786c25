"""Examples of many adapters that are learnt from in one step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic

import torch

from flora.adapter_data import ExampleT
from flora.objective import Objective
from flora.stacked_adapters import StackedAdapters


@dataclass(frozen=True, slots=True)
class MixedBatch(Generic[ExampleT]):
    """Example i is one of adapter `adapters[i]`."""

    adapters: tuple[int, ...]
    examples: tuple[ExampleT, ...]

    def pieces(
        self, num_tokens: Callable[[ExampleT], int], max_tokens: int
    ) -> Iterator["MixedBatch[ExampleT]"]:
        """Parts of at most `max_tokens` with their padding, examples of like lengths together.

        An example that is longer is alone.
        """
        order = sorted(range(len(self.examples)), key=lambda i: num_tokens(self.examples[i]))
        piece: list[int] = []
        for i in order:
            if piece and (len(piece) + 1) * num_tokens(self.examples[i]) > max_tokens:
                yield self._part(piece)
                piece = []
            piece.append(i)
        if piece:
            yield self._part(piece)

    def _part(self, chosen: list[int]) -> "MixedBatch[ExampleT]":
        return MixedBatch(
            tuple(self.adapters[i] for i in chosen), tuple(self.examples[i] for i in chosen)
        )


def adapter_losses(
    model: Any,
    stack: StackedAdapters,
    objective: Objective[ExampleT],
    batch: MixedBatch[ExampleT],
    max_tokens: int,
    backward: Callable[[torch.Tensor], None] | None = None,
) -> torch.Tensor:
    """Each adapter's loss, the mean over its own targets in nats: float32 [adapters], 0 if absent.

    `backward` gets the sum of all these losses in parts, so an adapter's gradient is that of its
    own loss, whoever else is in the batch and wherever it is cut into pieces.
    """
    num_targets = [0] * stack.num_adapters
    for adapter, example in zip(batch.adapters, batch.examples, strict=True):
        num_targets[adapter] += objective.num_targets(example)
    losses = torch.zeros(stack.num_adapters)
    for piece in batch.pieces(objective.num_tokens, max_tokens):
        index = stack.select(piece.adapters)
        sums = objective.loss_sums(model, piece.examples)
        means = sums / torch.tensor([num_targets[k] for k in piece.adapters], device=sums.device)
        if backward is not None:
            backward(means.sum())
        losses.index_add_(0, index.cpu(), means.detach().float().cpu())
    return losses
