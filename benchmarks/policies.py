"""Simple eviction policies and the optimum, over keys of one size: references for our own.

`use(key)` of each says whether the key was there, and brings it in if it was not.
"""

from collections import OrderedDict
from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Protocol


class Policy(Protocol):
    """A cache of keys that decides alone what leaves it."""

    def use(self, key: int) -> bool: ...


class Fifo:
    """First in, first out."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._keys: OrderedDict[int, None] = OrderedDict()

    def use(self, key: int) -> bool:
        if key in self._keys:
            return self._hit(key)
        if len(self._keys) >= self._capacity:
            self._keys.popitem(last=False)
        self._keys[key] = None
        return False

    def _hit(self, key: int) -> bool:
        return True


class Lru(Fifo):
    """Least recently used."""

    def _hit(self, key: int) -> bool:
        self._keys.move_to_end(key)
        return True


class Lfu:
    """Least frequently used since it came in; of equal ones the least recently used."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._uses: dict[int, int] = {}
        self._order: list[tuple[int, int, int]] = []  # uses, time, key; stale ones are skipped
        self._now = 0

    def use(self, key: int) -> bool:
        is_hit = key in self._uses
        if not is_hit and len(self._uses) >= self._capacity:
            uses, _, victim = heappop(self._order)
            while self._uses.get(victim) != uses:
                uses, _, victim = heappop(self._order)
            del self._uses[victim]
        self._now += 1
        self._uses[key] = self._uses.get(key, 0) + 1
        heappush(self._order, (self._uses[key], self._now, key))
        return is_hit


class Sieve:
    """SIEVE (NSDI 2024): a queue in order of arrival and a hand that spares what was visited."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._visited: dict[int, bool] = {}
        self._newer: dict[int, int] = {}  # a ring through -1, which stands before the oldest
        self._older: dict[int, int] = {}
        self._newer[-1] = self._older[-1] = self._hand = -1

    def use(self, key: int) -> bool:
        if key in self._visited:
            self._visited[key] = True
            return True
        if len(self._visited) >= self._capacity:
            self._evict()
        newest = self._older[-1]
        self._newer[newest], self._older[key] = key, newest
        self._newer[key], self._older[-1] = -1, key
        self._visited[key] = False
        return False

    def _evict(self) -> None:
        while self._hand == -1 or self._visited[self._hand]:
            if self._hand != -1:
                self._visited[self._hand] = False
            self._hand = self._newer[self._hand]
        newer, older = self._newer.pop(self._hand), self._older.pop(self._hand)
        self._newer[older], self._older[newer] = newer, older
        del self._visited[self._hand]
        self._hand = newer


class Belady:
    """The optimum: what is used again last leaves first. It has to know the whole `trace`."""

    def __init__(self, capacity: int, trace: Sequence[int]) -> None:
        self._capacity = capacity
        self._next_uses = _next_uses(trace)
        self._now = 0
        self._due: dict[int, int] = {}
        self._order: list[tuple[int, int]] = []  # minus the next use, key; stale ones are skipped

    def use(self, key: int) -> bool:
        is_hit = key in self._due
        if not is_hit and len(self._due) >= self._capacity:
            due, victim = heappop(self._order)
            while self._due.get(victim) != -due:
                due, victim = heappop(self._order)
            del self._due[victim]
        self._due[key] = self._next_uses[self._now]
        heappush(self._order, (-self._due[key], key))
        self._now += 1
        return is_hit


def _next_uses(trace: Sequence[int]) -> list[int]:
    seen: dict[int, int] = {}
    found = [0] * len(trace)
    for now in range(len(trace) - 1, -1, -1):
        found[now] = seen.get(trace[now], len(trace))
        seen[trace[now]] = now
    return found
