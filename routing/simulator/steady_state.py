"""What caches hold once they have run for long: a formula, where a run would take too long."""

import numpy as np
from numpy.typing import NDArray

_EXACT_RANKS = 10_000
_BLOCKS = 4_000
_HALVINGS = 100


def lru_hit_rate(num_adapters: int, exponent: float, capacity: int) -> float:
    """The share of hits of an LRU cache for independent requests by Zipf's law.

    Che's approximation (Che, Tung and Wang, "Hierarchical web caching systems", 2002): an adapter
    is there if it was asked for within one characteristic time, the same for all. Ranks beyond
    the first ten thousand are taken in blocks of like popularity.
    """
    if capacity >= num_adapters:
        return 1.0
    shares, counts = _shares(num_adapters, exponent)
    low, high = 0.0, 1.0
    while _held(shares, counts, high) < capacity:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _held(shares, counts, middle) < capacity:
            low = middle
        else:
            high = middle
    return float(np.sum(counts * shares * -np.expm1(-shares * high)))


def _held(shares: NDArray[np.float64], counts: NDArray[np.float64], time: float) -> float:
    return float(np.sum(counts * -np.expm1(-shares * time)))


def _shares(num: int, exponent: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of all requests, the share of each adapter of a block; and how many the block has."""
    exact = np.arange(1.0, min(num, _EXACT_RANKS) + 1)
    edges = np.unique(np.rint(np.geomspace(exact[-1] + 1, num + 1, _BLOCKS)))
    ranks = np.concatenate([exact, (edges[:-1] + edges[1:] - 1) / 2])
    counts = np.concatenate([np.ones_like(exact), np.diff(edges)])
    weights = ranks**-exponent
    return weights / np.sum(weights * counts), counts
