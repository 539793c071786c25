"""Replicas of a server as its metrics show them, poll after poll, and what to read from that."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx
import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from routing.rendezvous import Words, weights, word_of

POLL_S = 0.5
WINDOW_S = 2.0
LEAST_REQUESTS = 5
NEARLY = 0.95
_LOST = "flora_lost_requests_total"
_HITS, _MISSES = "flora_slots_hits_total", "flora_slots_misses_total"


@dataclass(frozen=True, slots=True)
class Poll:
    """Slot hits and misses of each replica that runs, and requests that lost theirs so far."""

    at_s: float
    slots: dict[str, tuple[float, float]]
    num_lost: float = 0.0


@dataclass
class History:
    """All polls. A replica is ready when it is first seen."""

    polls: list[Poll] = field(default_factory=list)
    ready_at_s: dict[str, float] = field(default_factory=dict)

    def add(self, poll: Poll) -> None:
        """The next one."""
        self.polls.append(poll)
        for replica_id in poll.slots:
            self.ready_at_s.setdefault(replica_id, poll.at_s)

    def caught_up_s(self, replica_id: str) -> float | None:
        """Seconds from its readiness until it hit its slots as often as those that were older.

        None where it has not yet. Each time the last `WINDOW_S` count.
        """
        ready_at_s = self.ready_at_s[replica_id]
        older = [other for other, at_s in self.ready_at_s.items() if at_s < ready_at_s]
        for number, poll in enumerate(self.polls):
            if poll.at_s > ready_at_s:
                before = self._before(number)
                own = hit_rate(before, poll, [replica_id])
                theirs = hit_rate(before, poll, older)
                if own is not None and theirs is not None and own >= NEARLY * theirs:
                    return poll.at_s - ready_at_s
        return None

    def _before(self, number: int) -> Poll:
        earliest_s = self.polls[number].at_s - WINDOW_S
        return next(poll for poll in self.polls if poll.at_s >= earliest_s)


def hit_rate(before: Poll, after: Poll, replica_ids: Sequence[str]) -> float | None:
    """Of all these replicas' requests between two polls; None where there are too few."""
    hits = misses = 0.0
    for replica_id in replica_ids:
        if replica_id in after.slots:
            old = before.slots.get(replica_id, (0.0, 0.0))
            hits += after.slots[replica_id][0] - old[0]
            misses += after.slots[replica_id][1] - old[1]
    return hits / (hits + misses) if hits + misses >= LEAST_REQUESTS else None


def read_poll(at_s: float, page: str) -> Poll:
    """From the text of /metrics."""
    hits: dict[str, float] = {}
    misses: dict[str, float] = {}
    num_lost = 0.0
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == _HITS:
                hits[sample.labels["replica"]] = sample.value
            elif sample.name == _MISSES:
                misses[sample.labels["replica"]] = sample.value
            elif sample.name == _LOST:
                num_lost += sample.value
    return Poll(at_s, {name: (hits[name], misses[name]) for name in hits}, num_lost)


def moved_share(adapters: Sequence[int], before: Sequence[str], after: Sequence[str]) -> float:
    """Which part of the adapters' homes differs between two sets of replicas."""
    return float(np.mean(_homes(adapters, before) != _homes(adapters, after)))


def _homes(adapters: Sequence[int], replica_ids: Sequence[str]) -> Words:
    words = np.array([word_of(replica_id) for replica_id in replica_ids], np.uint32)
    homes: Words = words[weights(adapters, words).argmax(axis=1)]
    return homes


class Watch:
    """Asks a server again and again."""

    def __init__(self, url: str) -> None:
        self.history = History()
        self._http = httpx.AsyncClient(base_url=url, timeout=30)

    @property
    def last(self) -> Poll:
        """The latest poll."""
        return self.history.polls[-1]

    async def poll(self) -> Poll:
        """Ask once."""
        page = (await self._http.get("/metrics")).raise_for_status().text
        self.history.add(read_poll(time.monotonic(), page))
        return self.last

    async def until(self, is_so: Callable[[], bool], timeout_s: float) -> float:
        """Poll until then; seconds that it took. Raises TimeoutError."""
        began_s = time.monotonic()
        async with asyncio.timeout(timeout_s):
            await self.poll()
            while not is_so():
                await asyncio.sleep(POLL_S)
                await self.poll()
        return self.last.at_s - began_s

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()
