"""What a model learns from an example: the one seam between the trainer and a kind of model."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch

ExampleT_contra = TypeVar("ExampleT_contra", contravariant=True)


class Objective(Protocol[ExampleT_contra]):
    """Maps examples to losses. The trainer knows models and examples through this alone.

    Sequence i of what the model's layers see has to be example i.
    """

    def num_tokens(self, example: ExampleT_contra) -> int:
        """How long an example is in a batch, padding apart."""

    def num_targets(self, example: ExampleT_contra) -> int:
        """Tokens that the model learns to say."""

    def loss_sums(self, model: Any, examples: Sequence[ExampleT_contra]) -> torch.Tensor:
        """Of each example the cross entropy summed over its targets, in nats: float32 [examples].

        Carries gradients unless they are switched off.
        """
