"""Which replica serves which request of a window. Pure: it sends nothing, and asks nobody.

    where its adapter is at hand, if that is not overloaded;
    else one of the adapter's homes, if one is not overloaded;
    else the least loaded

Of several it is the least loaded, or, where there are several doors, the less loaded of two drawn
at random: doors that know each other's load from the same old reports would all choose the same
(Mitzenmacher, "How useful is old information?", 2000). The bound on load is that of consistent
hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam, 2016), in tokens in place of balls.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

import numpy as np

from routing.config import RoutingConfig
from routing.fleet import Fleet, Floats
from routing.home_counts import HomeCounts
from routing.rendezvous import heaviest, weights
from routing.residency import Slot

Why = Literal["resident", "home", "prefix", "least_loaded"]


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What matters of a request: its adapter's word (0: the base model), what it costs in tokens,
    and a number for how its prompt begins (0: nothing that others could share).
    """

    adapter: int
    cost_tokens: float
    prefix: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """A replica and why it was chosen."""

    replica_id: str
    why: Why


Draw = Callable[[Sequence[Slot]], Sequence[Slot]]


def two_of(rng: Random) -> Draw:
    """Two of several, for a door among others; each draws by an `rng` of its own."""
    return lambda slots: rng.sample(slots, 2) if len(slots) > 2 else slots


class RoutingPolicy:
    """Looks at a window as a whole: adapters that are at hand go first, then those that have a
    home, and what may go anywhere fills the gaps. Remembers which adapters are hot, and where
    prompts that begin alike have gone; what is known of replicas is the fleet's. Of each
    choice it looks at what `draw` leaves: everything, unless it is told otherwise.
    """

    def __init__(self, config: RoutingConfig, draw: Draw | None = None) -> None:
        self._config = config
        self._draw = draw or (lambda slots: slots)
        self._homes = HomeCounts(
            max_homes=config.max_homes,
            grow_after_s=config.grow_after_s,
            shrink_after_s=config.shrink_after_s,
        )
        self._prefixes: OrderedDict[tuple[int, int], str] = OrderedDict()

    def place(
        self, requests: Sequence[RouteRequest], fleet: Fleet, now_s: float
    ) -> list[Placement] | None:
        """A replica for each request, in their order; None where there is no replica at all."""
        if not len(fleet):
            return None
        window = _Window(requests, fleet, fleet.loads(now_s), self._config)
        self._place_residents(window)
        self._place_homes(window, now_s)
        self._place_rest(window)
        placements = window.placements()
        for request, placement in zip(requests, placements, strict=True):
            self._remember(request, placement.replica_id)
        return placements

    def homes(self, adapter: int, fleet: Fleet, now_s: float) -> list[str]:
        """The replicas that an adapter's requests go to where nobody has it."""
        if not len(fleet):
            return []
        live = np.flatnonzero(np.isfinite(fleet.loads(now_s)))
        drawn = weights([adapter], fleet.words[live])[0]
        places = heaviest(drawn, self._homes.of(adapter, now_s))
        return [fleet.id_of(int(live[place])) for place in places]

    def _place_residents(self, window: "_Window") -> None:
        holders = window.fleet.residency.holders
        for index in window.open():
            request = window.requests[index]
            if request.adapter:
                self._take_one(window, index, holders(request.adapter), "resident")

    def _place_homes(self, window: "_Window", now_s: float) -> None:
        """Requests of adapters that nobody has, or only the overloaded."""
        left = [index for index in window.open() if window.requests[index].adapter]
        adapters = list(dict.fromkeys(window.requests[index].adapter for index in left))
        if not adapters:
            return
        drawn = dict(zip(adapters, weights(adapters, window.words), strict=True))
        homes: dict[int, list[Slot]] = {}
        for index in left:
            adapter = window.requests[index].adapter
            if adapter not in homes:
                places = heaviest(drawn[adapter], self._homes.of(adapter, now_s))
                homes[adapter] = [window.live[place] for place in places]
            if not self._take_one(window, index, homes[adapter], "home"):
                self._homes.note_full(adapter, now_s)

    def _place_rest(self, window: "_Window") -> None:
        for index in window.open():
            slot = self._prefix_slot(window, index)
            if slot is not None and window.fits(index, slot):
                window.take(index, slot, "prefix")
            else:
                window.take(index, self._least(window.live, window), "least_loaded")

    def _take_one(
        self, window: "_Window", index: int, candidates: Sequence[Slot], why: Why
    ) -> bool:
        """Give the request to the best of `candidates` that has room; False where none has."""
        slot = self._least(candidates, window) if candidates else None
        if slot is None or not window.fits(index, slot):
            # Where the least loaded of all has no room, none has.
            slot = min(candidates, key=window.loads.__getitem__, default=None)
            if slot is None or not window.fits(index, slot):
                return False
        liked = self._prefix_slot(window, index) if len(candidates) > 1 else None
        if liked is not None and liked in candidates and window.fits(index, liked):
            slot = liked
        window.take(index, slot, why)
        return True

    def _least(self, slots: Sequence[Slot], window: "_Window") -> Slot:
        return min(self._draw(slots), key=window.loads.__getitem__)

    def _prefix_slot(self, window: "_Window", index: int) -> Slot | None:
        request = window.requests[index]
        if not request.prefix:
            return None
        replica_id = self._prefixes.get((request.adapter, request.prefix))
        return None if replica_id is None else window.fleet.slot_of(replica_id)

    def _remember(self, request: RouteRequest, replica_id: str) -> None:
        if not request.prefix or not self._config.max_prefixes:
            return
        key = (request.adapter, request.prefix)
        self._prefixes[key] = replica_id
        self._prefixes.move_to_end(key)
        if len(self._prefixes) > self._config.max_prefixes:
            self._prefixes.popitem(last=False)


class _Window:
    """The requests of one decision, who has gone where, and what that makes of the loads."""

    def __init__(
        self,
        requests: Sequence[RouteRequest],
        fleet: Fleet,
        loads: Floats,
        config: RoutingConfig,
    ) -> None:
        self.requests = requests
        self.fleet = fleet
        self.loads = loads
        is_live = np.isfinite(loads)
        self.live: list[Slot] = np.flatnonzero(is_live).tolist()
        self.words = fleet.words[is_live]
        self._chosen: list[Placement | None] = [None] * len(requests)
        cost = sum(request.cost_tokens for request in requests)
        mean = (float(loads[is_live].sum()) + cost) / len(self.live)
        slack = config.slack_requests * cost / max(1, len(requests))
        self._bound = max(config.balance * mean, slack)

    def open(self) -> list[int]:
        """Places of the requests that have no replica yet."""
        return [index for index, placement in enumerate(self._chosen) if placement is None]

    def fits(self, index: int, slot: Slot) -> bool:
        """Whether the replica stays within the bound with this request."""
        return bool(self.loads[slot] + self.requests[index].cost_tokens <= self._bound)

    def take(self, index: int, slot: Slot, why: Why) -> None:
        """Settle a request."""
        self._chosen[index] = Placement(self.fleet.id_of(slot), why)
        self.loads[slot] += self.requests[index].cost_tokens

    def placements(self) -> list[Placement]:
        """All of them, settled."""
        return [placement for placement in self._chosen if placement is not None]


def split(placements: Iterable[Placement]) -> dict[str, list[int]]:
    """Places of requests by the replica that they go to."""
    groups: dict[str, list[int]] = {}
    for index, placement in enumerate(placements):
        groups.setdefault(placement.replica_id, []).append(index)
    return groups
