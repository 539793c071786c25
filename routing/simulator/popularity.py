"""Which adapters are asked for: draws from millions of them, without a table of them all."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Popularity:
    """The n-th of `num_adapters` adapters has a share in proportion to n ** -`exponent`, 0 for all
    alike; a share `hot_share` of all requests is for one more adapter, whatever its rank.
    """

    num_adapters: int
    exponent: float = 1.0
    hot_share: float = 0.0

    def __post_init__(self) -> None:
        if self.num_adapters < 1:
            raise ValueError(f"num_adapters must be at least 1, not {self.num_adapters}")
        if not 0 <= self.exponent < float("inf"):
            raise ValueError(f"the exponent must be at least 0, not {self.exponent}")
        if not 0 <= self.hot_share <= 1:
            raise ValueError(f"hot_share must be from 0 to 1, not {self.hot_share}")

    def draw(self, number: int, rng: np.random.Generator) -> Words:
        """Words of the adapters of so many requests: uint64 [number], none of them 0."""
        ranks = zipf_ranks(number, self.num_adapters, self.exponent, rng)
        ranks[rng.random(number) < self.hot_share] = 0
        return words_of(ranks)


def zipf_ranks(number: int, num_ranks: int, exponent: float, rng: np.random.Generator) -> Ints:
    """Ranks from 1 to `num_ranks`, int64 [number], with shares in proportion to rank ** -exponent.

    Rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from
    monotone discrete distributions", 1996): no memory for the ranks, and hardly any rejection.
    """
    ranks = np.empty(number, np.int64)
    open_places = np.arange(number)
    low, high = _area(1.5, exponent) - 1, _area(num_ranks + 0.5, exponent)
    while open_places.size:
        drawn = low + rng.random(open_places.size) * (high - low)
        found = np.clip(np.rint(_area_end(drawn, exponent)), 1, num_ranks)
        is_taken = drawn >= _area(found + 0.5, exponent) - found**-exponent
        ranks[open_places[is_taken]] = found[is_taken]
        open_places = open_places[~is_taken]
    return ranks


def words_of(ranks: Ints) -> Words:
    """A word for each rank, as of a digest: spread over 64 bits, and never the same for two.

    SplitMix64's last step (Steele, Lea and Flood, 2014), which has an inverse.
    """
    mixed = (ranks + 1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words: Words = mixed ^ (mixed >> np.uint64(31))
    return words


def _area(x: Floats | float, exponent: float) -> Floats:
    """The integral of x ** -exponent, from 1."""
    if exponent == 1:
        return np.log(x)
    return np.asarray((np.power(x, 1 - exponent) - 1) / (1 - exponent))


def _area_end(area: Floats, exponent: float) -> Floats:
    """Where `_area` has that value."""
    if exponent == 1:
        return np.exp(area)
    return np.asarray(np.power(1 + area * (1 - exponent), 1 / (1 - exponent)))
