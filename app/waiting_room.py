"""Who waits for a window, and who is next: fair between tenants, bounded for each. Pure.

Start-time fair queueing (Goyal, Vin and Cheng 1996): a tenant's next request starts, in virtual
time, where its last one ended; one costs its tokens divided by the tenant's weight. Whoever starts
first is taken first. A tenant that had nothing waiting starts at the present: it has saved nothing
up and owes only what it was given in advance. Within a tenant the order is that of arrival.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass, field

from app.ask import Ask
from app.token_stream import TokenStream
from contracts.adapters import TenantId

_MAX_TAGS = 4096


@dataclass(frozen=True, slots=True)
class RoomLimits:
    """Most requests that wait without a place to run, of all tenants and of one."""

    max_waiting: int = 1024
    max_waiting_per_tenant: int = 512


@dataclass(frozen=True, slots=True)
class Guest:
    """A request that waits since `entered_at_s`."""

    ask: Ask
    stream: TokenStream
    entered_at_s: float

    @property
    def cost(self) -> float:
        """What it takes of its tenant's share."""
        ask = self.ask
        num_tokens = ask.num_input_tokens + ask.max_new_tokens * ask.sampling.n
        return num_tokens / ask.caller.weight


@dataclass(slots=True)
class _Queue:
    """One tenant's guests. Its entry in the order of tenants carries `turn`."""

    turn: int
    guests: OrderedDict[str, Guest] = field(default_factory=OrderedDict)


class WaitingRoom:
    """Guests of many tenants."""

    def __init__(self, limits: RoomLimits) -> None:
        self._limits = limits
        self._queues: dict[TenantId, _Queue] = {}
        self._tenants: dict[str, TenantId] = {}
        self._order: list[tuple[float, int, TenantId]] = []
        self._starts: dict[TenantId, float] = {}
        self._now = 0.0
        self._num_turns = 0

    def __len__(self) -> int:
        return len(self._tenants)

    def __repr__(self) -> str:
        return f"<WaitingRoom {len(self)} of {len(self._queues)} tenants>"

    def full(self, tenant: TenantId, number: int, num_free: int) -> str:
        """Which bound `number` more of `tenant` would break: "tenant", "all", or "" for none.

        The `num_free` next ones need no place here: they can run.
        """
        queue = self._queues.get(tenant)
        num_waiting = len(queue.guests) if queue else 0
        if num_waiting + number - num_free > self._limits.max_waiting_per_tenant:
            return "tenant"
        return "all" if len(self) + number - num_free > self._limits.max_waiting else ""

    def add(self, guest: Guest) -> None:
        """Let a guest in, whom `full` was asked about."""
        tenant = guest.ask.caller.tenant
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = _Queue(0)
            self._enter(tenant, queue)
        queue.guests[guest.ask.request_id] = guest
        self._tenants[guest.ask.request_id] = tenant

    def discard(self, request_id: str) -> bool:
        """Whether the guest was here until now."""
        tenant = self._tenants.pop(request_id, None)
        if tenant is None:
            return False
        queue = self._queues[tenant]
        del queue.guests[request_id]
        if not queue.guests:
            del self._queues[tenant]
        if len(self._order) > 2 * len(self._queues) + 64:
            self._order = [entry for entry in self._order if self._is_current(entry)]
            heapq.heapify(self._order)
        return True

    def take(self, max_number: int) -> list[Guest]:
        """The next guests, in the order in which they are to run; they leave the room."""
        taken: list[Guest] = []
        while self._order and len(taken) < max_number:
            entry = heapq.heappop(self._order)
            if not self._is_current(entry):
                continue
            start, _, tenant = entry
            queue = self._queues[tenant]
            request_id, guest = queue.guests.popitem(last=False)
            del self._tenants[request_id]
            self._now = start
            self._starts[tenant] = start + guest.cost
            if queue.guests:
                self._enter(tenant, queue)
            else:
                del self._queues[tenant]
            taken.append(guest)
        self._forget()
        return taken

    def check_integrity(self) -> None:
        """Every guest is counted once, and every tenant with guests has its one turn."""
        ids = [id_ for queue in self._queues.values() for id_ in queue.guests]
        assert sorted(ids) == sorted(self._tenants)
        assert all(queue.guests for queue in self._queues.values())
        current = [entry[2] for entry in self._order if self._is_current(entry)]
        assert sorted(current) == sorted(self._queues)

    def _forget(self) -> None:
        """Debts count while others wait; then all are even. Only the largest are remembered."""
        if not self._queues:
            self._starts.clear()
            self._now = 0.0
        elif len(self._starts) > len(self._queues) + _MAX_TAGS:
            latest = heapq.nlargest(_MAX_TAGS // 2, self._starts.items(), key=lambda tag: tag[1])
            self._starts = dict(latest)

    def _enter(self, tenant: TenantId, queue: _Queue) -> None:
        self._num_turns += 1
        queue.turn = self._num_turns
        start = max(self._now, self._starts.get(tenant, 0.0))
        heapq.heappush(self._order, (start, queue.turn, tenant))

    def _is_current(self, entry: tuple[float, int, TenantId]) -> bool:
        queue = self._queues.get(entry[2])
        return queue is not None and queue.turn == entry[1]
