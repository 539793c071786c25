"""The policy as its documents tell it: loops, dictionaries, and one request after the other."""

import math
from collections.abc import Sequence

from routing.config import RoutingConfig
from routing.fleet import Fleet
from routing.home_counts import HomeCounts
from routing.policy import Placement, RouteRequest, Why
from routing.rendezvous import word_of
from tests.routing.fleets import loads_of
from tests.routing.test_rendezvous import slow_weight


class SlowPolicy:
    """What `RoutingPolicy` is to do. Of equals the first is taken: in a fleet the one of the lowest
    slot, of an adapter's homes the heaviest, of its holders the one that the fleet names first.
    """

    def __init__(self, config: RoutingConfig) -> None:
        self.config = config
        self.counts = HomeCounts(
            max_homes=config.max_homes,
            grow_after_s=config.grow_after_s,
            shrink_after_s=config.shrink_after_s,
        )
        self.prefixes: list[tuple[int, int, str]] = []  # adapter, prefix, replica; the latest last

    def place(
        self, requests: Sequence[RouteRequest], fleet: Fleet, now_s: float
    ) -> list[Placement] | None:
        if not len(fleet):
            return None
        self.loads = self.live_loads(fleet, now_s)
        self.bound = self.bound_of(requests)
        self.placed: dict[int, Placement] = {}
        for index, request in enumerate(requests):
            if request.adapter:
                holders = [fleet.id_of(slot) for slot in fleet.residency.holders(request.adapter)]
                self.take_best(index, request, holders, "resident")
        self.place_at_homes(requests, now_s)
        for index, request in enumerate(requests):
            if index not in self.placed:
                self.place_anywhere(index, request)
        for index, request in enumerate(requests):
            self.remember(request, self.placed[index].replica_id)
        return [self.placed[index] for index in range(len(requests))]

    def live_loads(self, fleet: Fleet, now_s: float) -> dict[str, float]:
        found = loads_of(fleet, now_s)
        order = sorted(found, key=lambda replica_id: fleet.slot_of(replica_id) or 0)
        return {r: found[r] for r in order if math.isfinite(found[r])}

    def bound_of(self, requests: Sequence[RouteRequest]) -> float:
        cost = sum(request.cost_tokens for request in requests)
        mean = (sum(self.loads.values()) + cost) / len(self.loads)
        mean_cost = cost / len(requests) if requests else 0.0
        return max(self.config.balance * mean, self.config.slack_requests * mean_cost)

    def homes(self, adapter: int, now_s: float) -> list[str]:
        ranked = sorted(self.loads, key=lambda r: -slow_weight(adapter, word_of(r)))
        return ranked[: self.counts.of(adapter, now_s)]

    def place_at_homes(self, requests: Sequence[RouteRequest], now_s: float) -> None:
        homes: dict[int, list[str]] = {}
        for index, request in enumerate(requests):
            if request.adapter and index not in self.placed:
                # An adapter that needs more homes gets them in the next window.
                if request.adapter not in homes:
                    homes[request.adapter] = self.homes(request.adapter, now_s)
                if not self.take_best(index, request, homes[request.adapter], "home"):
                    self.counts.note_full(request.adapter, now_s)

    def place_anywhere(self, index: int, request: RouteRequest) -> None:
        liked = self.liked(request)
        if liked is not None and self.has_room(liked, request):
            self.take(index, request, liked, "prefix")
        else:
            least = min(self.loads, key=lambda replica_id: self.loads[replica_id])
            self.take(index, request, least, "least_loaded")

    def take_best(self, index: int, request: RouteRequest, candidates: list[str], why: Why) -> bool:
        roomy = [replica_id for replica_id in candidates if self.has_room(replica_id, request)]
        liked = self.liked(request)
        if liked is not None and liked in roomy:
            self.take(index, request, liked, why)
        elif roomy:
            least = min(roomy, key=lambda replica_id: self.loads[replica_id])
            self.take(index, request, least, why)
        return bool(roomy)

    def has_room(self, replica_id: str, request: RouteRequest) -> bool:
        load = self.loads.get(replica_id, math.inf)
        return load + request.cost_tokens <= self.bound

    def take(self, index: int, request: RouteRequest, replica_id: str, why: Why) -> None:
        self.loads[replica_id] += request.cost_tokens
        self.placed[index] = Placement(replica_id, why)

    def liked(self, request: RouteRequest) -> str | None:
        """Where a prompt that begins like this one went last."""
        for adapter, prefix, replica_id in self.prefixes:
            if request.prefix and (adapter, prefix) == (request.adapter, request.prefix):
                return replica_id
        return None

    def remember(self, request: RouteRequest, replica_id: str) -> None:
        if request.prefix and self.config.max_prefixes:
            key = (request.adapter, request.prefix)
            kept = [entry for entry in self.prefixes if entry[:2] != key]
            self.prefixes = [*kept, (*key, replica_id)][-self.config.max_prefixes :]
