"""The learning rate of every adapter of a run at its own step. Pure numbers."""

import math
from dataclasses import dataclass
from typing import Literal

Schedule = Literal["cosine", "constant"]


@dataclass(frozen=True, slots=True)
class LearningRate:
    """Linear warm-up to `peak`, then a half cosine to zero at the adapter's last step, or constant.

    `num_steps` holds each adapter's steps: a schedule ends where its adapter's data ends.
    """

    peak: float
    num_warmup_steps: int
    num_steps: tuple[int, ...]
    schedule: Schedule = "cosine"

    def at(self, adapter: int, step: int) -> float:
        """The rate of an adapter's step, counted from 0."""
        if step < self.num_warmup_steps:
            return self.peak * (step + 1) / self.num_warmup_steps
        if self.schedule == "constant":
            return self.peak
        num_left = max(1, self.num_steps[adapter] - self.num_warmup_steps)
        share = min(1.0, (step - self.num_warmup_steps) / num_left)
        return self.peak * 0.5 * (1 + math.cos(math.pi * share))
