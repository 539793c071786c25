"""What one adapter of a run learns from. Knows no kind of example."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from contracts.errors import InvalidRequest

ExampleT = TypeVar("ExampleT")


@dataclass(frozen=True, slots=True)
class AdapterData(Generic[ExampleT]):
    """What one adapter learns from, and what it is judged by. Each holds one example or more."""

    name: str
    learned: Sequence[ExampleT]
    heldout: Sequence[ExampleT]

    def __post_init__(self) -> None:
        if not self.learned or not self.heldout:
            raise InvalidRequest(f"{self.name}: nothing to learn from, or nothing held out", "data")


def hold_out(
    examples: Sequence[ExampleT], heldout_fraction: float, seed: int
) -> tuple[list[ExampleT], list[ExampleT]]:
    """Shuffled examples to learn from and, of two or more, at least one held out."""
    order = torch.randperm(len(examples), generator=torch.Generator().manual_seed(seed)).tolist()
    num_heldout = min(max(1, round(heldout_fraction * len(examples))), len(examples) - 1)
    shuffled = [examples[i] for i in order]
    return shuffled[num_heldout:], shuffled[:num_heldout]
