"""What others do, as far as it decides which replica serves a request."""

import bisect
from collections.abc import Sequence

from routing.rendezvous import word_of
from routing.simulator.job import Job
from routing.simulator.policy_router import replica_id
from routing.simulator.router import MemberRouter, Reports, Surroundings

_VIRTUAL_NODES = 100


class RoundRobinRouter(MemberRouter):
    """Each door goes round by itself, from a place of its own."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._turn = int(surroundings.rng.integers(1 << 32))

    def choose(self, job: Job) -> int:
        """The next one."""
        self._turn += 1
        return self.members[self._turn % len(self.members)]


class PowerOfTwoRouter(MemberRouter):
    """Ray Serve's default: the shorter queue of two (Mitzenmacher, 2001).

    Queues are known exactly here; Serve asks the two, or remembers what they last said.
    """

    def choose(self, job: Job) -> int:
        """The shorter queue of two."""
        return self.shorter_queue(self.members)


class MultiplexRouter(MemberRouter):
    """Ray Serve's multiplexed models: replicas that have the adapter by their last report, else
    those that have the fewest, the shorter queue of two of them in both cases.

    Serve waits one to two seconds for a replica that refuses; none refuses here.
    """

    reads_reports = True

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._residents: dict[int, frozenset[int]] = {}
        self._numbers: dict[int, int] = {}
        self._holders: dict[int, set[int]] = {}
        self._fewest: list[int] = []

    def update(self, reports: Reports, now_s: float) -> None:
        """Who is there, and who has what."""
        super().update(reports, now_s)
        for replica in self._residents.keys() - set(self.members):
            self._take(replica, frozenset())
            del self._residents[replica]
        for replica in self.members:
            self._residents.setdefault(replica, frozenset())
            report = reports[replica]
            if report is not None and report.number != self._numbers.get(replica):
                self._numbers[replica] = report.number
                self._take(replica, frozenset(report.residents))
        least = min((len(found) for found in self._residents.values()), default=0)
        self._fewest = [r for r in self.members if len(self._residents[r]) == least]

    def choose(self, job: Job) -> int:
        """Who has it, else who has the fewest."""
        return self.shorter_queue(sorted(self._holders.get(job.adapter, ())) or self._fewest)

    def _take(self, replica: int, residents: frozenset[int]) -> None:
        old = self._residents.get(replica, frozenset())
        self._residents[replica] = residents
        for adapter in residents - old:
            self._holders.setdefault(adapter, set()).add(replica)
        for adapter in old - residents:
            self._holders[adapter].discard(replica)


class RingRouter(MemberRouter):
    """Ray Serve's consistent hashing: a ring with 100 places for each replica, no bound on load.

    Serve goes on to the next two where a replica refuses; none refuses here.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__(surroundings)
        self._ring: list[tuple[int, int]] = []
        self._words: Sequence[int] = []

    def update(self, reports: Reports, now_s: float) -> None:
        """A new ring where somebody came or went."""
        old = self.members
        super().update(reports, now_s)
        if old != self.members:
            self._build()

    def choose(self, job: Job) -> int:
        """The next place on the ring."""
        place = bisect.bisect_right(self._words, job.adapter >> 32)
        return self._ring[place % len(self._ring)][1]

    def _build(self) -> None:
        self._ring = sorted(
            (word_of(f"{replica_id(replica)}:{place}"), replica)
            for replica in self.members
            for place in range(_VIRTUAL_NODES)
        )
        self._words = [word for word, _ in self._ring]
