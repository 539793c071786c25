"""The same arrivals for every router."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from routing.simulator.arrivals import Arrivals, make_arrivals
from routing.simulator.outcome import Outcome, outcome_of
from routing.simulator.popularity import Popularity
from routing.simulator.routers import ROUTERS
from routing.simulator.run import Run
from routing.simulator.scene import Scene
from routing.simulator.traces import make_trace

LOAD = 0.6
_SAMPLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """A scene and what is asked of it. `rate` requests come a second over all doors; 0 takes 0.6
    of what the replicas can just do with requests of that trace's mean size. `data` is the folder
    of public traces; a trace `poisson` needs none.
    """

    scene: Scene
    popularity: Popularity
    trace: str = "poisson"
    rate: float = 0.0
    seconds: float = 20.0
    seed: int = 0
    data: Path = field(default_factory=lambda: Path("../shared/data"))

    def __post_init__(self) -> None:
        if not self.seconds > 0 or not 0 <= self.rate < float("inf"):
            raise ValueError("seconds must be more than 0, and the rate at least 0")

    def arrivals(self) -> Arrivals:
        """All requests, decided by the seed. Raises InvalidRequest where the trace is absent."""
        rng = np.random.default_rng([self.seed, 0])
        trace = make_trace(self.trace, self.data)(self.real_rate(), self.seconds, rng)
        return make_arrivals(trace, self.popularity, self.scene.num_doors, rng)

    def real_rate(self) -> float:
        """Requests a second."""
        if self.rate:
            return self.rate
        rng = np.random.default_rng([self.seed, 2])
        sample = make_trace(self.trace, self.data)(100.0, _SAMPLE_S, rng)
        prompt, answer = sample.prompt_tokens.mean(), sample.answer_tokens.mean()
        most = self.scene.profile.max_rate(float(prompt), float(answer))
        return LOAD * most * self.scene.num_replicas

    def outcomes(self, names: Iterable[str]) -> Iterator[tuple[str, Outcome]]:
        """What each router makes of them."""
        arrivals = self.arrivals()
        for name in names:
            run = Run(self.scene, arrivals, ROUTERS[name], self.seed)
            yield name, outcome_of(run.trail())
