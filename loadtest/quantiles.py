"""Quantiles of samples, by name: p50, p99, max. The nearest sample, never one in between."""

import math
import re
from collections.abc import Sequence

POINTS = ("p50", "p90", "p95", "p99", "max")
CURVE_POINTS = 100
_NAME = re.compile(r"p(\d{1,2})|max")


def quantile(values: Sequence[float], share: float) -> float:
    """The least of `values` that at least `share` of them do not exceed. Raises ValueError."""
    if not values:
        raise ValueError("no samples")
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def points(values: Sequence[float]) -> dict[str, float]:
    """Every one of `POINTS`; nothing without samples."""
    return {name: quantile(values, share_of(name)) for name in POINTS} if values else {}


def share_of(name: str) -> float:
    """What part of the samples `name` is over: 0.95 for p95. Raises ValueError."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"no such quantile: {name}")
    return 1.0 if found[1] is None else int(found[1]) / 100


def curve(values: Sequence[float]) -> list[float]:
    """A hundred and one quantiles, 0 to 1: all that a plot of a distribution shows."""
    if not values:
        return []
    ordered = sorted(values)
    last = len(ordered) - 1
    return [ordered[round(last * step / CURVE_POINTS)] for step in range(CURVE_POINTS + 1)]
