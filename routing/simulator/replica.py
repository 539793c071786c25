"""One simulated replica: adapters come in, its engine runs, and it says what it has to do."""

from collections.abc import Callable
from math import exp, isnan, log

from contracts.replica import ReplicaReport
from routing.simulator.clock import Clock
from routing.simulator.engine import Engine, GapCounts
from routing.simulator.fleet_facts import FleetFacts
from routing.simulator.job import DEVICE, NODE, REDIS, Job
from routing.simulator.profile import Profile, Wait
from routing.simulator.tiers import NodeFiles, SlotTable

_SCORE_OF_P95 = 1.645
_MAX_RESIDENTS = 1024


class SimulatedReplica:
    """Requests wait for their adapters, which come side by side, and then for the engine."""

    def __init__(
        self,
        number: int,
        profile: Profile,
        clock: Clock,
        facts: FleetFacts,
        node: NodeFiles,
        gaps: GapCounts,
        told: Callable[[Job], None],
    ) -> None:
        self.number = number
        self._profile = profile
        self._clock = clock
        self._facts = facts
        self._node = node
        self._told = told  # hears of every first token and every end
        self._slots = SlotTable(profile.num_slots)
        self._fetching: dict[int, Job] = {}
        self._load_tokens = 0.0
        self._num_reports = 0
        self.engine = Engine(profile, clock, self, gaps)
        self.is_up = True
        facts.is_up[number] = True

    def __repr__(self) -> str:
        return f"<SimulatedReplica {self.number}: {self.engine!r}, {self._slots!r}>"

    def receive(self, job: Job) -> None:
        """A request has arrived; the engine gets it once its adapter is here."""
        self._load_tokens += job.cost_tokens
        job.tier, ready_s = self._find(job)
        if ready_s <= self._clock.now_s:
            self.engine.add(job)
        else:
            self._fetching[job.number] = job
            self._clock.at(ready_s, self._fetched, job)

    def report(self) -> ReplicaReport:
        """What doors get to know."""
        self._num_reports += 1
        return ReplicaReport(
            number=self._num_reports,
            load_tokens=round(self._load_tokens),
            num_running=self.engine.num_running,
            residents=self._slots.residents(_MAX_RESIDENTS),
        )

    def left_tokens(self) -> int:
        """What its requests still need, prompts and answers, whatever doors expect."""
        fetching = self._fetching.values()
        return self.engine.left_tokens() + sum(j.prompt_tokens + j.answer_tokens for j in fetching)

    def stop(self) -> list[tuple[Job, int]]:
        """It is gone: the requests that it had, with the tokens that they were given."""
        lost = [*self.engine.abort(), *((job, 0) for job in self._fetching.values())]
        self._fetching.clear()
        self.is_up = False
        self._facts.is_up[self.number] = False
        for adapter in self._slots.residents(self._profile.num_slots):
            self._facts.drop(self.number, adapter)
        return lost

    def started(self, job: Job) -> None:
        """Its sequence runs: the adapter has a slot until it ends."""
        if job.adapter:
            evicted = self._slots.acquire(job.adapter)
            self._facts.hold(self.number, job.adapter)
            if evicted is not None:
                self._facts.drop(self.number, evicted)

    def first_token(self, job: Job) -> None:
        """Its prompt is done."""
        self._load_tokens -= job.prompt_tokens
        self._facts.first_token(job)
        if isnan(job.first_token_s):
            job.first_token_s = self._clock.now_s
        self._tell(job)

    def ended(self, job: Job) -> None:
        """Its answer is complete."""
        self._load_tokens -= job.expected_tokens
        if job.adapter:
            self._slots.release(job.adapter)
        self._facts.ended(job)
        job.ended_s = self._clock.now_s
        self._tell(job)

    def _tell(self, job: Job) -> None:
        job.replica_load_tokens = self._load_tokens
        self._told(job)

    def _fetched(self, job: Job) -> None:
        if self._fetching.pop(job.number, None) is not None:
            self.engine.add(job)

    def _find(self, job: Job) -> tuple[int, float]:
        """Where its adapter is, and when it will be here."""
        now_s = self._clock.now_s
        if not job.adapter or job.adapter in self._slots:
            return DEVICE, now_s
        there_s = self._node.use(job.adapter)
        if there_s is None:
            there_s = now_s + wait_s(self._profile.from_redis, job.luck)
            self._node.add(job.adapter, there_s)
            return REDIS, there_s
        if there_s > now_s:  # somebody fetches it already
            return REDIS, there_s
        return NODE, now_s + wait_s(self._profile.from_node, job.luck)


def wait_s(wait: Wait, luck: float) -> float:
    """The time of a fetch with that much luck, a standard normal draw."""
    return wait.p50_s * exp(luck * log(wait.p95_s / wait.p50_s) / _SCORE_OF_P95)
