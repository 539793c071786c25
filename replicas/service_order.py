"""Tenants in the order of the service that they have had. Knows nothing of why they are ordered."""

from collections import OrderedDict
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count

_SPARE_ENTRIES = 64


@dataclass(slots=True, eq=False)
class Request:
    """One request's place in the queue, and what it uses of the engine."""

    id: int
    tenant: "Tenant"
    weight: float
    num_seqs: int
    prompt_tokens: int
    has_tokens: bool = False


@dataclass(slots=True, eq=False)
class Tenant:
    """`counter` is the service so far per weight: the virtual token counter of the paper.

    `since` is when it came or was served last, in such events; `entry` its valid place in an order.
    `lifted_to` is what the counter was when the tenant last came with nothing waiting and no more
    service than others; it `is_late` while it waits and has had more than a burst since.
    """

    name: str
    weight: float
    counter: float = 0.0
    lifted_to: float = 0.0
    since: int = 0
    num_running: int = 0
    num_running_seqs: int = 0
    entry: int = 0
    is_late: bool = False
    idle_since_s: float | None = None
    waiting: OrderedDict[int, Request] = field(default_factory=OrderedDict)

    @property
    def is_idle(self) -> bool:
        return not (self.waiting or self.num_running)

    @property
    def is_active(self) -> bool:
        """Whether it has a share: it is here, or was a moment ago."""
        return not self.is_idle or self.idle_since_s is not None

    @property
    def order(self) -> tuple[float, int]:
        """Least service first; of equals the one that waits longest."""
        return self.counter, self.since

    @property
    def first(self) -> Request:
        """The request that waits longest."""
        return next(iter(self.waiting.values()))


class ServiceOrder:
    """A heap of tenants with something waiting.

    Service only grows, so that a key which is out of date is too small: it comes up too early, and
    is put right then. A tenant is in one order at most, the one that it was pushed to last.
    """

    _entries = count(1)

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, int, Tenant]] = []

    def push(self, tenant: Tenant) -> None:
        """A tenant is in this order from now on, and in no other."""
        tenant.entry = next(self._entries)
        heappush(self._heap, (*tenant.order, tenant.entry, tenant))

    def first(self) -> Tenant | None:
        """The tenant with the least service."""
        heap = self._heap
        while heap:
            counter, since, entry, tenant = heap[0]
            if tenant.entry != entry or not tenant.waiting:
                heappop(heap)
            elif (counter, since) != tenant.order:
                heapreplace(heap, (*tenant.order, entry, tenant))
            else:
                return tenant
        return None

    def trim(self, num_tenants: int) -> None:
        """Drop entries that are not valid, when there are many more of them than tenants."""
        if len(self._heap) > 2 * num_tenants + _SPARE_ENTRIES:
            self._heap = [e for e in self._heap if e[3].entry == e[2] and e[3].waiting]
            heapify(self._heap)

    def __contains__(self, tenant: Tenant) -> bool:
        """Slow: for checks."""
        return any(entry == tenant.entry for _, _, entry, _ in self._heap)
