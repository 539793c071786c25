"""Ours: the policy that serves, over what one door knows."""

from collections.abc import Sequence
from random import Random

from routing.fleet import Fleet
from routing.policy import RouteRequest, RoutingPolicy, two_of
from routing.simulator.job import Job
from routing.simulator.router import Reports, Router, Surroundings

_PREFIX = "replica-"


def replica_id(replica: int) -> str:
    """The name of a simulated replica."""
    return f"{_PREFIX}{replica}"


class PolicyRouter(Router):
    """`routing.policy` and `routing.fleet`, unchanged.

    A request's prompt counts until its first token, its expected answer until its end.
    """

    reads_reports = True

    def __init__(self, surroundings: Surroundings) -> None:
        self.fleet = Fleet(surroundings.config)
        seed = int(surroundings.rng.integers(1 << 32))
        self._policy = RoutingPolicy(surroundings.config, two_of(Random(seed)))

    def update(self, reports: Reports, now_s: float) -> None:
        """What the controller has told."""
        self.fleet.update({replica_id(r): report for r, report in reports.items()}, now_s)

    def place(self, jobs: Sequence[Job], now_s: float) -> list[int]:
        """The policy's choice."""
        requests = [RouteRequest(job.adapter, job.cost_tokens) for job in jobs]
        placements = self._policy.place(requests, self.fleet, now_s)
        if placements is None:
            raise ValueError("there is no replica")
        return [int(placement.replica_id[len(_PREFIX) :]) for placement in placements]

    def sent(self, job: Job, now_s: float) -> None:
        """It counts as load, and its adapter as known there."""
        self.fleet.sent(replica_id(job.replica), job.cost_tokens, job.adapter, now_s)

    def first_token(self, job: Job, now_s: float) -> None:
        """The prompt counts no more."""
        self.fleet.done(replica_id(job.replica), job.prompt_tokens)

    def ended(self, job: Job, now_s: float) -> None:
        """The answer counts no more."""
        self.fleet.done(replica_id(job.replica), job.expected_tokens)

    def lost(self, job: Job, now_s: float) -> None:
        """Nothing counts, and the replica is left alone."""
        self.fleet.done(replica_id(job.replica), job.cost_tokens)
        self.fleet.suspect(replica_id(job.replica), now_s)


class FreshPolicyRouter(PolicyRouter):
    """The same, with each replica's load beside the first and the last token of every answer."""

    def first_token(self, job: Job, now_s: float) -> None:
        """What the replica has to do comes with it."""
        super().first_token(job, now_s)
        self.fleet.hear(replica_id(job.replica), job.replica_load_tokens, now_s)

    def ended(self, job: Job, now_s: float) -> None:
        """What the replica has to do comes with it."""
        super().ended(job, now_s)
        self.fleet.hear(replica_id(job.replica), job.replica_load_tokens, now_s)
