"""A figure over a sample of items, with how far to trust it. Knows not what is measured."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from contracts.errors import InvalidRequest

_NUM_RESAMPLES = 1000
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean or ratio over `n` items; `low` to `high` is its 95 % bootstrap interval."""

    value: float
    standard_error: float
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return asdict(self)


def estimate(parts: Sequence[float], wholes: Sequence[float] = (), *, seed: int = 0) -> Estimate:
    """The sum of `parts` over the sum of `wholes`; without wholes, the mean of `parts`.

    The interval is the percentile bootstrap over items (Efron 1979), the standard error its spread.
    Raises InvalidRequest where there is nothing to divide by.
    """
    top = np.asarray(parts, np.float64)
    bottom = np.asarray(wholes or np.ones(len(parts)), np.float64)
    if not bottom.sum():
        raise InvalidRequest("there is nothing to judge")
    rng = np.random.default_rng(seed)
    draws = [rng.integers(0, len(top), len(top)) for _ in range(_NUM_RESAMPLES)]
    ratios = np.array([top[d].sum() / bottom[d].sum() for d in draws if bottom[d].sum()])
    low, high = np.percentile(ratios, _PERCENTILES)
    value = float(top.sum() / bottom.sum())
    return Estimate(value, float(ratios.std()), float(low), float(high), len(top))
