"""One run: arrivals at doors, replicas behind them, and a controller that carries reports."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from contracts.replica import ReplicaReport
from routing.simulator.arrivals import Arrivals
from routing.simulator.clock import Clock
from routing.simulator.door import SimulatedDoor
from routing.simulator.engine import Engine, GapCounts
from routing.simulator.fleet_facts import FleetFacts
from routing.simulator.job import Job
from routing.simulator.replica import SimulatedReplica
from routing.simulator.router import MakeRouter, Surroundings
from routing.simulator.scene import Event, Scene
from routing.simulator.tiers import NodeFiles

NETWORK_S = 0.0005
SAMPLE_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Trail:
    """All that happened. `imbalance` is the largest over the mean of what replicas have left to
    do, in tokens, at times `sampled_s`; `busy_share` is how much of the time until the last arrival
    engines ran.
    """

    scene: Scene
    jobs: Sequence[Job]
    gaps: GapCounts
    sampled_s: Sequence[float]
    imbalance: Sequence[float]
    busy_share: float
    reported_adapters: int
    num_reports: int
    num_events: int


class Run:
    """A scene, its arrivals and one kind of router. The same seed gives the same trail."""

    def __init__(
        self, scene: Scene, arrivals: Arrivals, make_router: MakeRouter, seed: int
    ) -> None:
        self._scene = scene
        self._rng = np.random.default_rng([seed, 1])
        self._clock = Clock()
        self._facts = FleetFacts(scene.max_replicas)
        nodes = -(-scene.max_replicas // scene.profile.replicas_per_node)
        self._facts.nodes += (NodeFiles(scene.profile.node_adapters) for _ in range(nodes))
        self._gaps = GapCounts()
        self._jobs = _jobs(arrivals)
        self._num_open = len(self._jobs)
        self._replicas: dict[int, SimulatedReplica] = {}
        self._engines: dict[int, Engine] = {}
        self._reports: dict[int, ReplicaReport | None] = {}
        self._samples: list[tuple[float, float]] = []
        self._reported_adapters = self._num_reports = 0
        self._busy_share = 0.0
        routers = [make_router(self._surroundings()) for _ in range(scene.num_doors)]
        self._has_reports = any(router.reads_reports for router in routers)
        self._doors = [SimulatedDoor(self._clock, router, self._send) for router in routers]

    def __repr__(self) -> str:
        return f"<Run {self._clock!r}, {self._num_open} requests to end>"

    def trail(self) -> Trail:
        """Run until every request has ended."""
        for number in range(self._scene.num_replicas):
            self._add(number)
        for door in self._doors:
            door.update(dict(self._reports))
        self._clock.after(self._scene.controller_s, self._control)
        self._clock.after(SAMPLE_EVERY_S, self._sample)
        for event in self._scene.events:
            self._clock.at(event.at_s, self._happen, event)
        self._clock.at(self._jobs[0].arrived_s, self._arrive, 0)
        self._clock.at(self._jobs[-1].arrived_s, self._note_busy)
        self._clock.run(lambda: not self._num_open)
        if self._num_open:
            raise RuntimeError(f"{self._num_open} requests never ended")
        return self._made_trail()

    def _surroundings(self) -> Surroundings:
        rng = np.random.default_rng(self._rng.integers(1 << 63))
        scene = self._scene
        return Surroundings(scene.profile, scene.config, self._facts, self._engines, rng)

    def _happen(self, event: Event) -> None:
        if event.what == "add":
            self._add(len(self._replicas))
        elif self._replicas[event.replica].is_up:
            self._kill(event.replica)

    def _arrive(self, number: int) -> None:
        job = self._jobs[number]
        if number + 1 < len(self._jobs):
            self._clock.at(self._jobs[number + 1].arrived_s, self._arrive, number + 1)
        self._doors[job.door].arrive(job)

    def _send(self, job: Job) -> None:
        self._facts.sent(job)
        self._clock.after(NETWORK_S, self._deliver, job)

    def _deliver(self, job: Job) -> None:
        replica = self._replicas[job.replica]
        if replica.is_up:
            replica.receive(job)
        else:
            self._clock.after(self._scene.break_s, self._doors[job.door].lost, job, 0)

    def _told(self, job: Job) -> None:
        if not isnan(job.ended_s):
            self._num_open -= 1
        self._doors[job.door].told(job)

    def _add(self, number: int) -> None:
        node = self._facts.nodes[number // self._scene.profile.replicas_per_node]
        replica = SimulatedReplica(
            number, self._scene.profile, self._clock, self._facts, node, self._gaps, self._told
        )
        self._replicas[number] = replica
        self._engines[number] = replica.engine
        self._reports[number] = None
        if self._has_reports:
            self._clock.after(self._rng.random() * self._scene.report_s, self._report, replica)

    def _kill(self, number: int) -> None:
        for job, generated in self._replicas[number].stop():
            self._clock.after(self._scene.break_s, self._doors[job.door].lost, job, generated)
        self._clock.after(self._scene.notice_s, self._forget, number)

    def _forget(self, number: int) -> None:
        del self._reports[number]

    def _report(self, replica: SimulatedReplica) -> None:
        if not replica.is_up:
            return
        report = self._reports[replica.number] = replica.report()
        self._num_reports += 1
        self._reported_adapters += len(report.residents)
        delay_s = self._scene.report_s * (0.9 + 0.2 * self._rng.random())
        self._clock.after(delay_s, self._report, replica)

    def _control(self) -> None:
        """The controller tells every door what it has."""
        told = dict(self._reports)
        for door in self._doors:
            self._clock.after(self._rng.random() * self._scene.delay_s, door.update, told)
        self._clock.after(self._scene.controller_s, self._control)

    def _sample(self) -> None:
        left = [replica.left_tokens() for replica in self._replicas.values() if replica.is_up]
        if sum(left):
            self._samples.append((self._clock.now_s, max(left) * len(left) / sum(left)))
        if self._clock.now_s < self._jobs[-1].arrived_s:
            self._clock.after(SAMPLE_EVERY_S, self._sample)

    def _note_busy(self) -> None:
        busy_s = sum(replica.engine.busy_s for replica in self._replicas.values())
        self._busy_share = busy_s / (self._clock.now_s * len(self._replicas))

    def _made_trail(self) -> Trail:
        return Trail(
            scene=self._scene,
            jobs=self._jobs,
            gaps=self._gaps,
            sampled_s=[time_s for time_s, _ in self._samples],
            imbalance=[ratio for _, ratio in self._samples],
            busy_share=self._busy_share,
            reported_adapters=self._reported_adapters,
            num_reports=self._num_reports,
            num_events=self._clock.num_events,
        )


def _jobs(arrivals: Arrivals) -> list[Job]:
    columns = (
        arrivals.doors,
        arrivals.trace.times_s,
        arrivals.adapters,
        arrivals.trace.prompt_tokens,
        arrivals.trace.answer_tokens,
        arrivals.luck,
    )
    rows = zip(*(column.tolist() for column in columns), strict=True)
    expected = arrivals.mean_answer_tokens
    jobs = [Job(number, *row) for number, row in enumerate(rows)]
    for job in jobs:
        job.expected_tokens = expected
    return jobs
