"""When requests come, and how long their prompts and answers are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from routing.simulator.popularity import Ints, Popularity, Words

Times = NDArray[np.float64]
_SPREAD = 0.8


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in order of time: seconds from the first, prompt and answer lengths in tokens."""

    times_s: Times
    prompt_tokens: Ints
    answer_tokens: Ints

    def __post_init__(self) -> None:
        if not len(self.times_s) == len(self.prompt_tokens) == len(self.answer_tokens) > 1:
            raise ValueError("a trace needs two requests, and three columns of one length")

    def scaled(self, rate: float, seconds: float) -> "Trace":
        """The trace at another mean rate, repeated or cut to so many seconds.

        Gaps shrink alike, so that bursts stay what they are.
        """
        gaps = np.diff(self.times_s, prepend=0.0)
        gaps[0] = gaps[1:].mean()  # between the last request and the first of the next turn
        number = round(rate * seconds)
        places = np.arange(number) % len(gaps)
        times = np.cumsum(gaps[places]) / (gaps.mean() * rate)
        return Trace(times, self.prompt_tokens[places], self.answer_tokens[places])


@dataclass(frozen=True, slots=True)
class Arrivals:
    """All requests of a run. `doors` is where each comes in, `luck` a standard normal draw."""

    trace: Trace
    adapters: Words
    doors: Ints
    luck: Times

    def __len__(self) -> int:
        return len(self.adapters)

    @property
    def mean_answer_tokens(self) -> float:
        """What a door may expect of an answer."""
        return float(self.trace.answer_tokens.mean())


MakeTrace = Callable[[float, float, np.random.Generator], Trace]
"""Of a rate a second and a number of seconds."""


def poisson(
    rate: float,
    seconds: float,
    rng: np.random.Generator,
    *,
    prompt_tokens: float = 512,
    answer_tokens: float = 128,
) -> Trace:
    """Independent requests; lengths are log-normal with these means, and at least 1."""
    number = max(2, round(rate * seconds))
    times = np.cumsum(rng.exponential(1 / rate, number))
    return Trace(times, _lengths(prompt_tokens, number, rng), _lengths(answer_tokens, number, rng))


def make_arrivals(
    trace: Trace, popularity: Popularity, num_doors: int, rng: np.random.Generator
) -> Arrivals:
    """A trace's requests, each for a drawn adapter and at a drawn door."""
    number = len(trace.times_s)
    return Arrivals(
        trace=trace,
        adapters=popularity.draw(number, rng),
        doors=rng.integers(num_doors, size=number),
        luck=rng.standard_normal(number),
    )


def _lengths(mean: float, number: int, rng: np.random.Generator) -> Ints:
    drawn = rng.lognormal(np.log(mean) - _SPREAD**2 / 2, _SPREAD, number)
    lengths: Ints = np.maximum(1, np.rint(drawn)).astype(np.int64)
    return lengths
