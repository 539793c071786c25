"""What every router of the simulator does, and what it may look at."""

# ruff: noqa: B027 - what a router is told it may leave unheard

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from contracts.replica import ReplicaReport
from routing.config import RoutingConfig
from routing.simulator.engine import Engine
from routing.simulator.fleet_facts import FleetFacts
from routing.simulator.job import Job
from routing.simulator.profile import Profile

Reports = Mapping[int, ReplicaReport | None]


class Router(ABC):
    """One door's choice of replicas, which are numbers here. What it need not know it ignores."""

    reads_reports = False
    """Whether replicas must report at all; members are told in any case."""

    @abstractmethod
    def update(self, reports: Reports, now_s: float) -> None:
        """The members, each with its last report if it has made one."""

    @abstractmethod
    def place(self, jobs: Sequence[Job], now_s: float) -> Iterable[int]:
        """A replica for each request of a window; one is sent before the next is asked for.

        Raises ValueError, at once, where there is no replica.
        """

    def sent(self, job: Job, now_s: float) -> None:
        """It is on its way."""

    def first_token(self, job: Job, now_s: float) -> None:
        """Its prompt is done."""

    def ended(self, job: Job, now_s: float) -> None:
        """It is done."""

    def lost(self, job: Job, now_s: float) -> None:
        """Its replica has lost it."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a router is made of. `facts` and `engines` are more than a real door can know."""

    profile: Profile
    config: RoutingConfig
    facts: FleetFacts
    engines: Mapping[int, Engine]
    rng: np.random.Generator


MakeRouter = Callable[[Surroundings], Router]


class MemberRouter(Router):
    """A router that needs to know no more than who is there."""

    def __init__(self, surroundings: Surroundings) -> None:
        self.facts = surroundings.facts
        self.rng = surroundings.rng
        self.members: list[int] = []
        self._lost: set[int] = set()

    def update(self, reports: Reports, now_s: float) -> None:
        """Those who are there."""
        self.members = sorted(reports.keys() - self._lost)

    def lost(self, job: Job, now_s: float) -> None:
        """Whoever loses a request is left out from now on."""
        if job.replica not in self._lost:
            self._lost.add(job.replica)
            self.update(dict.fromkeys(self.members), now_s)

    def place(self, jobs: Sequence[Job], now_s: float) -> Iterable[int]:
        """One after the other."""
        if not self.members:
            raise ValueError("there is no replica")
        return (self.choose(job) for job in jobs)

    @abstractmethod
    def choose(self, job: Job) -> int:
        """A replica for one request."""

    def shorter_queue(self, candidates: Sequence[int]) -> int:
        """The one with fewer requests of two that are drawn at random."""
        first, second = (candidates[int(draw * len(candidates))] for draw in self.rng.random(2))
        return first if self.facts.ongoing[first] <= self.facts.ongoing[second] else second
