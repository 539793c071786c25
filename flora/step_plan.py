"""Which examples of each adapter are in which step. Pure: a function of sizes and a seed."""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch

from flora.recipe import Recipe

_EPOCH_STRIDE = 1_000_003


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Adapter k learns from `num_examples[k]` examples, a fresh shuffle each pass over them.

    What an adapter gets depends on nothing but its own number of examples and the recipe: it is the
    same alone and among others, and the same in a run that was resumed.
    """

    num_examples: tuple[int, ...]
    recipe: Recipe

    @property
    def num_steps(self) -> tuple[int, ...]:
        """Steps of each adapter, unless it stops early."""
        return tuple(self._num_steps(count) for count in self.num_examples)

    def indices(self, adapter: int, step: int) -> list[int]:
        """Examples of an adapter's step, counted from 0; the last step of a pass may have fewer."""
        count = self.num_examples[adapter]
        epoch, position = divmod(step, self._steps_per_epoch(count))
        begin = position * self.recipe.batch_size
        return _shuffled(count, self.recipe.seed, epoch)[begin : begin + self.recipe.batch_size]

    def _steps_per_epoch(self, count: int) -> int:
        return math.ceil(count / self.recipe.batch_size)

    def _num_steps(self, count: int) -> int:
        if self.recipe.max_epochs is None:
            return self.recipe.max_steps
        wanted = math.ceil(self.recipe.max_epochs * self._steps_per_epoch(count))
        return min(self.recipe.max_steps, wanted)


@lru_cache(maxsize=64)
def _shuffled(count: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed + _EPOCH_STRIDE * epoch)
    return torch.randperm(count, generator=generator).tolist()
