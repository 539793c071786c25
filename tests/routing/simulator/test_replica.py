"""Where adapters are found, and how long requests wait for them."""

import pytest

from routing.simulator.clock import Clock
from routing.simulator.engine import GapCounts
from routing.simulator.fleet_facts import FleetFacts
from routing.simulator.job import DEVICE, NODE, REDIS, Job
from routing.simulator.profile import Wait
from routing.simulator.replica import SimulatedReplica, wait_s
from routing.simulator.tiers import NodeFiles
from tests.routing.simulator.scenes import TINY


class Pair:
    """Two replicas of one node."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.facts = FleetFacts(2)
        self.told: list[tuple[int, float]] = []
        node = NodeFiles(TINY.node_adapters)
        self.replicas = [
            SimulatedReplica(number, TINY, self.clock, self.facts, node, GapCounts(), self._note)
            for number in range(2)
        ]

    def _note(self, job: Job) -> None:
        self.told.append((job.number, self.clock.now_s))

    def ask(self, number: int, replica: int, adapter: int, at_s: float) -> Job:
        job = Job(number, 0, at_s, adapter, 10, 1, expected_tokens=4, replica=replica)
        self.facts.sent(job)
        self.clock.at(at_s, self.replicas[replica].receive, job)
        return job

    def run(self, until_s: float = 1e9) -> None:
        self.clock.at(until_s, lambda: None)
        self.clock.run(lambda: self.clock.now_s >= until_s)


def test_an_adapter_comes_from_redis_then_from_the_node_then_it_is_here() -> None:
    pair = Pair()
    jobs = [
        pair.ask(0, 0, adapter=7, at_s=0.0),
        pair.ask(1, 1, adapter=7, at_s=1.0),  # on its way to the node
        pair.ask(2, 0, adapter=7, at_s=10.0),
        pair.ask(3, 1, adapter=8, at_s=20.0),
        pair.ask(4, 0, adapter=8, at_s=30.0),
        pair.ask(5, 0, adapter=0, at_s=40.0),
    ]
    pair.run()
    assert [job.tier for job in jobs] == [REDIS, REDIS, DEVICE, REDIS, NODE, DEVICE]
    waits = [job.first_token_s - job.arrived_s for job in jobs]
    assert waits == pytest.approx([3.1, 2.1, 1.1, 3.1, 1.6, 1.1])
    assert pair.facts.holders(7) == {0, 1}


def test_a_report_counts_prompts_until_first_tokens_and_answers_until_they_end() -> None:
    pair = Pair()
    pair.ask(0, 0, adapter=7, at_s=0.0)
    job = pair.ask(1, 0, adapter=7, at_s=0.0)
    job.answer_tokens = 9
    pair.run(1.0)
    first = pair.replicas[0].report()
    assert (first.number, first.load_tokens, first.num_running) == (1, 28, 0)
    pair.run(5.0)
    second = pair.replicas[0].report()
    assert (second.number, second.load_tokens, second.residents) == (2, 4, (7,))
    assert pair.replicas[0].left_tokens() < 9
    pair.run(100.0)
    assert pair.replicas[0].report().load_tokens == 0
    assert pair.facts.ongoing.tolist() == [0, 0]
    assert pair.facts.context_tokens.tolist() == [0, 0]


def test_a_replica_that_stops_gives_back_all_that_it_had() -> None:
    pair = Pair()
    jobs = [pair.ask(number, 0, adapter=number + 1, at_s=0.0) for number in range(3)]
    late = pair.ask(3, 0, adapter=9, at_s=2.5)
    pair.run(3.0)
    lost = pair.replicas[0].stop()
    assert {job.number for job, _ in lost} == {job.number for job in [*jobs, late]}
    pair.run(100.0)
    assert not pair.told
    assert not pair.facts.is_up[0]
    assert pair.facts.holders(1) == set()


def test_luck_decides_fetches() -> None:
    assert wait_s(Wait(0.01, 0.04), 0.0) == pytest.approx(0.01)
    assert wait_s(Wait(0.01, 0.04), 1.645) == pytest.approx(0.04)
    assert wait_s(Wait(0.01, 0.04), -1.645) == pytest.approx(0.0025)
