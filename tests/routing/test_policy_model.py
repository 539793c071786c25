"""The policy against its slow definition, window by window, while replicas come and go."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from contracts.replica import ReplicaReport
from routing.config import RoutingConfig
from routing.fleet import Fleet
from routing.policy import Placement, RouteRequest, RoutingPolicy
from tests.routing.fleets import loads_of, make_report
from tests.routing.slow_policy import SlowPolicy

# Whole numbers, and few: sums are exact in any order, and equal loads are common.
requests = st.builds(
    RouteRequest,
    st.sampled_from([0, 0, *range(1, 7)]),
    st.sampled_from([0.0, 1.0, 2.0, 8.0, 40.0]),
    st.integers(0, 2),
)
configs = st.builds(
    RoutingConfig,
    balance=st.sampled_from([1.25, 1.5, 4.0]),
    slack_requests=st.sampled_from([0.0, 1.0, 4.0]),
    max_homes=st.sampled_from([1, 3, 64]),
    grow_after_s=st.sampled_from([0.0, 0.5]),
    shrink_after_s=st.just(5.0),
    learned_s=st.sampled_from([0.0, 2.0]),
    max_prefixes=st.sampled_from([0, 1, 3, 100]),
    report_max_age_s=st.just(1e9),
)
reports = st.builds(
    make_report,
    st.integers(1, 1000),
    st.integers(0, 20),
    st.sets(st.integers(1, 6), max_size=3).map(tuple),
)


class AgainstSlowPolicy(RuleBasedStateMachine):
    """Both look at one fleet and have to choose alike, for the same reasons."""

    ids = st.sampled_from([f"r{n}" for n in range(8)])

    @initialize(config=configs)
    def begin(self, config: RoutingConfig) -> None:
        self.config = config
        self.fleet = Fleet(config)
        self.policy, self.slow = RoutingPolicy(config), SlowPolicy(config)
        self.now_s = 0.0
        self.sent: list[tuple[RouteRequest, str]] = []

    @rule(members=st.dictionaries(ids, reports, max_size=8))
    def update(self, members: dict[str, ReplicaReport]) -> None:
        self.fleet.update(members, self.now_s)

    @rule(replica_id=ids, is_gone=st.booleans())
    def lose(self, replica_id: str, is_gone: bool) -> None:
        if is_gone:
            self.fleet.remove(replica_id)
        else:
            self.fleet.suspect(replica_id, self.now_s)

    @rule(seconds=st.sampled_from([0.25, 0.5, 2.0, 6.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def finish(self) -> None:
        for request, replica_id in self.sent:
            self.fleet.done(replica_id, request.cost_tokens)
        self.sent.clear()

    @rule(window=st.lists(requests, max_size=12))
    def place(self, window: list[RouteRequest]) -> None:
        before = loads_of(self.fleet, self.now_s)
        placements = self.policy.place(window, self.fleet, self.now_s)
        assert placements == self.slow.place(window, self.fleet, self.now_s)
        assert loads_of(self.fleet, self.now_s) == before
        if placements is not None:
            self.keeps_the_bound(window, placements, before)
            self.send(window, placements)

    def keeps_the_bound(
        self, window: list[RouteRequest], placements: list[Placement], loads: dict[str, float]
    ) -> None:
        """A choice never lifts a replica over the bound, but where even the least loaded has no
        room; that one is then no more than the mean and one request.
        """
        dearest = max((request.cost_tokens for request in window), default=0.0)
        live = [load for load in loads.values() if math.isfinite(load)]
        mean = (sum(live) + sum(request.cost_tokens for request in window)) / len(live)
        after = dict(loads)
        for request, placement in zip(window, placements, strict=True):
            after[placement.replica_id] += request.cost_tokens
        for replica_id in {placement.replica_id for placement in placements}:
            reasons = {p.why for p in placements if p.replica_id == replica_id}
            least = mean + dearest if "least_loaded" in reasons else 0.0
            assert after[replica_id] <= max(self.slow.bound, least)

    def send(self, window: list[RouteRequest], placements: list[Placement]) -> None:
        for request, placement in zip(window, placements, strict=True):
            self.fleet.sent(placement.replica_id, request.cost_tokens, request.adapter, self.now_s)
            self.sent.append((request, placement.replica_id))

    @invariant()
    def homes_agree(self) -> None:
        for adapter in range(1, 7) if len(self.fleet) else ():
            self.slow.loads = self.slow.live_loads(self.fleet, self.now_s)
            expected = self.slow.homes(adapter, self.now_s)
            assert self.policy.homes(adapter, self.fleet, self.now_s) == expected


AgainstSlowPolicy.TestCase.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None
)
TestAgainstSlowPolicy = AgainstSlowPolicy.TestCase
