"""Traffic for the choice among replicas: Zipf's requests, a fleet that works on them, its reports.

Everything is decided by `seed`; time is simulated.
"""

from collections import deque

import numpy as np

from contracts.replica import ReplicaReport
from routing.config import RoutingConfig
from routing.fleet import Fleet
from routing.policy import Placement, RouteRequest

NUM_ADAPTERS = 1_000_000
NUM_RESIDENTS = 1024
BASE_SHARE = 0.1
NUM_PREFIXES = 100
_IN_FLIGHT = 8
_RATE_PER_S = 10
_MOVED = 16

Window = list[RouteRequest]


class RouterTraffic:
    """`num_replicas` that hold the most popular adapters, about 8 requests in flight on each."""

    def __init__(self, num_replicas: int, config: RoutingConfig, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._words = self._rng.integers(1, 2**63, NUM_ADAPTERS)
        shares = np.cumsum(1 / np.arange(1, NUM_ADAPTERS + 1))
        self._cumulative = shares / shares[-1]
        self._num_replicas = num_replicas
        self._in_flight: deque[tuple[str, float]] = deque()
        self.now_s = 0.0
        self.fleet = Fleet(config)
        self.reports = self._first_reports()
        self.fleet.update(self.reports, self.now_s)

    def window(self, size: int) -> Window:
        """The next `size` requests: a tenth is the base model's, with one of 100 beginnings."""
        rng = self._rng
        ranks = self._cumulative.searchsorted(rng.random(size))
        adapters = np.where(rng.random(size) < BASE_SHARE, 0, self._words[ranks]).tolist()
        costs = rng.integers(64, 512, size).tolist()
        prefixes = rng.integers(1, NUM_PREFIXES + 1, size).tolist()
        return [
            RouteRequest(a, float(c), p) for a, c, p in zip(adapters, costs, prefixes, strict=True)
        ]

    def send(self, window: Window, placements: list[Placement]) -> None:
        """The requests are on their way, time passes, and as much as came is done."""
        self.now_s += len(window) / (_RATE_PER_S * self._num_replicas)
        for request, placement in zip(window, placements, strict=True):
            self.fleet.sent(placement.replica_id, request.cost_tokens, request.adapter, self.now_s)
            self._in_flight.append((placement.replica_id, request.cost_tokens))
        while len(self._in_flight) > _IN_FLIGHT * self._num_replicas:
            self.fleet.done(*self._in_flight.popleft())

    def next_reports(self) -> dict[str, ReplicaReport]:
        """Everybody's last report; one replica's is new: another load, 16 other residents."""
        replica_id = f"replica-{self._rng.integers(self._num_replicas)}"
        old = self.reports[replica_id]
        fresh = self._words[self._rng.integers(0, NUM_ADAPTERS, _MOVED)].tolist()
        load = int(self._rng.integers(2000, 4000))
        residents = (*fresh, *old.residents[:-_MOVED])
        self.reports[replica_id] = ReplicaReport(old.number + 1, load, 8, residents)
        return self.reports

    def _first_reports(self) -> dict[str, ReplicaReport]:
        count = min(self._num_replicas * NUM_RESIDENTS, NUM_ADAPTERS)
        held = np.array_split(self._words[self._rng.permutation(count)], self._num_replicas)
        return {
            f"replica-{n}": ReplicaReport(1, 3000, 8, tuple(words.tolist()))
            for n, words in enumerate(held)
        }
