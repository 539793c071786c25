"""Which adapters of a run go on learning, by their held-out losses. Pure numbers."""

import math
from collections.abc import Mapping
from typing import Any


class EarlyStop:
    """An adapter stops after `patience` evaluations in a row without a lower loss; 0: never.

    A loss that is not finite is never lower.
    """

    def __init__(self, num_adapters: int, patience: int) -> None:
        self._patience = patience
        self.best = [math.inf] * num_adapters
        self._num_worse = [0] * num_adapters

    def __repr__(self) -> str:
        stopped = sum(self.is_stopped(k) for k in range(len(self.best)))
        return f"EarlyStop({stopped} of {len(self.best)} stopped)"

    def record(self, losses: Mapping[int, float]) -> list[int]:
        """One evaluation, loss by adapter; the adapters that are better than ever."""
        improved = []
        for adapter, loss in losses.items():
            if loss < self.best[adapter]:
                self.best[adapter], self._num_worse[adapter] = loss, 0
                improved.append(adapter)
            else:
                self._num_worse[adapter] += 1
        return improved

    def is_stopped(self, adapter: int) -> bool:
        """Whether the adapter learns no more."""
        return 0 < self._patience <= self._num_worse[adapter]

    def to_json(self) -> dict[str, Any]:
        """What `load_json` takes; an adapter that was never evaluated has no best loss."""
        best = [loss if math.isfinite(loss) else None for loss in self.best]
        return {"best": best, "num_worse": self._num_worse}

    def load_json(self, state: Mapping[str, Any]) -> None:
        """The inverse of `to_json`."""
        self.best = [math.inf if loss is None else loss for loss in state["best"]]
        self._num_worse = list(state["num_worse"])
