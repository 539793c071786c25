"""The policy at work in one door: what Serve tells of replicas, and what this door sends them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from contracts.adapters import AdapterKey
from contracts.generation import GenerateRequest
from contracts.load import TokensLeft
from contracts.replica import ReplicaReport, digest_word
from routing.config import RoutingConfig
from routing.fleet import Fleet
from routing.members import Members
from routing.policy import Draw, Placement, RouteRequest, RoutingPolicy

_PREFIX_BITS = (1 << 63) - 1


class ReplicaChooser:
    """Decides for windows of requests, and keeps count of what is sent. `clock` is monotonic."""

    def __init__(
        self,
        members: Members,
        config: RoutingConfig,
        clock: Callable[[], float],
        draw: Draw | None = None,
    ) -> None:
        self._members = members
        self._config = config
        self._clock = clock
        self._version = -1
        self._died: Collection[str] = ()
        self._policy = RoutingPolicy(config, draw)
        self.fleet = Fleet(config)

    def place(self, requests: Sequence[GenerateRequest]) -> list[Placement] | None:
        """A replica for each; they count as sent. None where there is no replica."""
        now_s = self._refresh()
        routed = [self._route_request(request) for request in requests]
        placements = self._policy.place(routed, self.fleet, now_s)
        for request, placement in zip(routed, placements or (), strict=bool(placements)):
            self.fleet.sent(placement.replica_id, request.cost_tokens, request.adapter, now_s)
        return placements

    def done(self, replica_id: str, num_tokens: int) -> None:
        """So much of what was sent there is done, or will not be."""
        self.fleet.done(replica_id, num_tokens)

    def told(self, replica_id: str, load_tokens: int) -> None:
        """A replica says beside its tokens what it has to do, which is fresher than a report."""
        self.fleet.told(replica_id, load_tokens, self._clock())

    def suspect(self, replica_id: str, for_s: float | None = None) -> None:
        """It has lost requests, or holds them up: the next go elsewhere for a while."""
        self.fleet.suspect(replica_id, self._clock(), for_s)

    def trust(self, replica_id: str) -> None:
        """It is well after all."""
        self.fleet.trust(replica_id)

    def seen_at_s(self) -> dict[str, float]:
        """When each replica last spoke or reported; minus infinity where it never has."""
        self._refresh()
        return self.fleet.reported_at_s()

    def is_drained(self, replica_id: str) -> bool:
        """Whether Serve has taken it out as planned: nobody is to blame for its end."""
        self._refresh()
        return bool(replica_id) and replica_id not in self.fleet and replica_id not in self._died

    def reports(self) -> Mapping[str, ReplicaReport | None]:
        """All replicas that Serve has told of, each with its last report."""
        return self._members.told().reports

    def homes(self, keys: Iterable[AdapterKey]) -> dict[str, tuple[AdapterKey, ...]]:
        """Which replicas will be asked for these adapters, as far as can be said beforehand."""
        now_s = self._refresh()
        homes: dict[str, list[AdapterKey]] = {}
        for key in keys:
            if not key.is_base:
                for home in self._policy.homes(digest_word(key.digest), self.fleet, now_s):
                    homes.setdefault(home, []).append(key)
        return {replica_id: tuple(theirs) for replica_id, theirs in homes.items()}

    def _refresh(self) -> float:
        now_s = self._clock()
        told = self._members.told()
        if told.version != self._version:
            self._version, self._died = told.version, told.died
            self.fleet.update(told.reports, now_s)
        return now_s

    def _route_request(self, request: GenerateRequest) -> RouteRequest:
        adapter = 0 if request.adapter.is_base else digest_word(request.adapter.digest)
        cost = TokensLeft(request).num_tokens
        number = self._config.prefix_tokens
        if not number or len(request.prompt_token_ids) < number:
            return RouteRequest(adapter, cost)
        prefix = hash(request.prompt_token_ids[:number]) & _PREFIX_BITS
        return RouteRequest(adapter, cost, prefix)
