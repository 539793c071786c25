"""Which waiting request is next: weighted fair queueing by tokens served.

Numbers and ids alone: no clock, no engine, no event loop.
"""

from collections import deque
from heapq import heappop, heappush
from itertools import count

from replicas.fair_limits import FairLimits
from replicas.longest_queue import LongestQueue
from replicas.service_order import Request, ServiceOrder, Tenant
from replicas.tenant_shares import TenantShares

_MAX_REMEMBERED = 10_000
_STEADY = 1 << 40


class FairQueue:
    """Requests that wait for the engine, and what those in it have had.

    The tenant with the least service per weight is next; its requests go in their order. Whoever
    comes with nothing waiting is lifted to the least service among those who wait, so that nobody
    saves up credit by being idle. Tokens are charged as they are generated. This is VTC (Sheng et
    al., "Fairness in Serving Large Language Models", 2024, algorithm 2, arXiv 2401.00588) with
    the reserve of FairLimits added: the service of two backlogged tenants differs by at most
    `2 * bound(...)`.

    Every call takes O(log n) of the tenants, averaged over calls.
    """

    def __init__(self, limits: FairLimits) -> None:
        self._limits = limits
        self._ids, self._events = count(1), count(1)
        self._tenants: dict[str, Tenant] = {}
        self._waiting: dict[int, Request] = {}
        self._running: dict[int, Request] = {}
        self._lengths = LongestQueue()
        # Tenants with something waiting: those who came lately, and the others.
        self._fresh, self._steady = ServiceOrder(), ServiceOrder()
        self._idle: list[tuple[float, str]] = []
        self._resting: deque[tuple[float, Tenant]] = deque()
        self._last_left = Tenant("", 1.0)
        self._shares = TenantShares(limits)
        self.num_prefill_tokens = 0

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    @property
    def num_running_seqs(self) -> int:
        return self._shares.num_running_seqs

    @property
    def virtual_time(self) -> float:
        """What a newcomer is lifted to: the least service per weight among those who wait."""
        firsts = [t for t in (self._fresh.first(), self._steady.first()) if t is not None]
        return min((t.counter for t in firsts), default=self._last_left.counter)

    def is_full_for(self, tenant: str) -> bool:
        """Whether a request of `tenant` would be refused now."""
        if self.num_waiting < self._limits.max_waiting:
            return False
        own = self._tenants.get(tenant)
        return (len(own.waiting) if own else 0) >= self._lengths.max_length

    def add(
        self, tenant: str, weight: float, num_seqs: int, prompt_tokens: int, now_s: float
    ) -> tuple[int, int | None]:
        """A request waits: its id, and the id of the request that had to make room, if one had to.

        That is the newest of the tenant with the longest queue; the new one itself if nobody's is
        longer. Raises ValueError for a weight that is not above 0.
        """
        if not 0 < weight < float("inf"):
            raise ValueError(f"a weight is a number above 0, not {weight}")
        request_id, shed = next(self._ids), None
        if self.is_full_for(tenant):
            return request_id, request_id
        if self.num_waiting >= self._limits.max_waiting:
            shed = next(reversed(self._tenants[self._lengths.longest()].waiting))
            self.leave(shed, now_s)
        owner = self._owner(tenant, weight)
        if not owner.waiting:
            if owner.counter <= (now := self.virtual_time):
                owner.counter = owner.lifted_to = now
            owner.since = next(self._events)
        num_seqs = min(num_seqs, self._limits.max_num_seqs)
        request = Request(request_id, owner, weight, num_seqs, prompt_tokens)
        owner.waiting[request_id] = self._waiting[request_id] = request
        self._lengths.change(tenant, len(owner.waiting))
        if len(owner.waiting) == 1:
            self._push(owner)
        return request_id, shed

    def pick(self, now_s: float) -> tuple[int, int] | None:
        """The next request that the engine has room for, and its priority; None if there is none.

        The priority is virtual time, lower first; tenants that came lately go before all others.
        """
        self._retire(now_s)
        owner = self._next()
        if owner is None:
            return None
        priority = int(owner.counter) + (0 if self._is_fresh(owner) else _STEADY)
        request = owner.first
        self._dequeue(request)
        owner.since = next(self._events)
        owner.num_running += 1
        self._shares.run(owner, request.num_seqs)
        self._serve(request, self._limits.prompt_cost * request.prompt_tokens)
        self._running[request.id] = request
        self.num_prefill_tokens += request.prompt_tokens
        return request.id, priority

    def charge(self, request_id: int, num_tokens: int) -> bool:
        """A running request has brought tokens. True if they were its first: others may fit now."""
        request = self._running[request_id]
        self._serve(request, self._limits.token_cost * num_tokens)
        if request.has_tokens or not num_tokens:
            return False
        request.has_tokens = True
        self.num_prefill_tokens -= request.prompt_tokens
        return True

    def leave(self, request_id: int, now_s: float) -> None:
        """A request has ended, whether it waited or ran; unknown ids are ignored."""
        if (request := self._waiting.get(request_id)) is not None:
            self._dequeue(request)
        elif (request := self._running.pop(request_id, None)) is not None:
            owner = request.tenant
            owner.num_running -= 1
            self._shares.run(owner, -request.num_seqs)
            if not request.has_tokens:
                self.num_prefill_tokens -= request.prompt_tokens
        if request is not None and request.tenant.is_idle:
            request.tenant.idle_since_s = now_s
            self._resting.append((now_s, request.tenant))
            self._retire(now_s)

    def service(self, tenant: str) -> float:
        """A tenant's virtual token counter; virtual time for one that is not known."""
        owner = self._tenants.get(tenant)
        return self.virtual_time if owner is None else owner.counter

    def bound(self, max_prompt_tokens: int, max_running_tokens: int, min_weight: float) -> float:
        """How far the counters of two backlogged tenants can be apart.

        `max_running_tokens` are prompts and answers of all that run at a time. Lemma 4.3 of the
        paper, and the head start that the reserve may give.
        """
        prompt = self._limits.prompt_cost * max_prompt_tokens
        running = self._limits.token_cost * max_running_tokens
        head_start = self._limits.burst_cost if self._limits.reserved_seqs else 0.0
        return max(prompt, running) / min_weight + head_start

    def check_integrity(self) -> None:
        """Raises AssertionError where the parts contradict each other."""
        owners = self._tenants.values()
        assert self.num_running_seqs == sum(r.num_seqs for r in self._running.values())
        assert self.num_running_seqs <= max(self._limits.max_running_seqs, 0)
        assert self.num_prefill_tokens == sum(
            r.prompt_tokens for r in self._running.values() if not r.has_tokens
        )
        assert self.num_waiting == sum(len(t.waiting) for t in owners) <= self._limits.max_waiting
        assert len(self._running) == sum(t.num_running for t in owners)
        self._shares.check_integrity(list(owners))
        assert self._lengths.max_length == max((len(t.waiting) for t in owners), default=0)
        for owner in owners:
            assert not owner.waiting or owner in self._fresh or owner in self._steady

    def __repr__(self) -> str:
        return (
            f"<FairQueue {self.num_waiting} waiting, {self.num_running_seqs} sequences running,"
            f" {len(self._tenants)} tenants>"
        )

    def _next(self) -> Tenant | None:
        fresh, steady = self._fresh.first(), self._steady.first()
        if fresh is None or steady is None:
            first = fresh or steady
            return first if first is not None and self._fits(first) else None
        if steady.order < fresh.order and self._fits(steady):
            return steady
        # If it does not fit, what is free is kept for those who come now and then.
        return fresh if self._fits(fresh) else None

    def _fits(self, owner: Tenant) -> bool:
        """Whether the tenant's first request fits."""
        request, limits, is_fresh = owner.first, self._limits, self._is_fresh(owner)
        reserved = limits.reserved_seqs if is_fresh else -self._shares.num_held()
        if self.num_running_seqs + request.num_seqs > limits.max_num_seqs + reserved:
            return False
        pending = self.num_prefill_tokens
        room = limits.max_prefill_tokens * (2 if is_fresh else 1)
        return not pending or pending + request.prompt_tokens <= room

    def _is_fresh(self, owner: Tenant) -> bool:
        """Whether a tenant has had little since it last came with nothing waiting."""
        return owner.counter <= owner.lifted_to + self._limits.burst_cost

    def _serve(self, request: Request, cost: float) -> None:
        owner = request.tenant
        owner.counter += cost / request.weight
        if owner.waiting and not owner.is_late and not self._is_fresh(owner):
            self._push(owner)

    def _push(self, owner: Tenant) -> None:
        """Put a tenant that waits where it belongs."""
        is_fresh = self._is_fresh(owner)
        order = self._fresh if is_fresh else self._steady
        order.push(owner)
        order.trim(len(self._tenants))
        self._shares.set_late(owner, not is_fresh)

    def _retire(self, now_s: float) -> None:
        """Tenants that have been idle for long enough have no share any more."""
        resting = self._resting
        while resting and (
            resting[0][0] + self._limits.active_s <= now_s or len(resting) > _MAX_REMEMBERED
        ):
            since_s, owner = resting.popleft()
            if owner.idle_since_s == since_s:
                owner.idle_since_s = None
                self._shares.part(owner)
                heappush(self._idle, (owner.counter, owner.name))
        self._forget_idle()

    def _owner(self, name: str, weight: float) -> Tenant:
        """The tenant of a new request, active from now on; its weight is the newest request's."""
        owner = self._tenants.setdefault(name, Tenant(name, weight))
        self._shares.join(owner, weight, was_active=owner.is_active)
        owner.idle_since_s = None
        return owner

    def _dequeue(self, request: Request) -> None:
        owner = request.tenant
        del owner.waiting[request.id], self._waiting[request.id]
        self._lengths.change(owner.name, len(owner.waiting))
        if not owner.waiting:
            self._last_left = owner
            self._shares.set_late(owner, False)

    def _forget_idle(self) -> None:
        """Drop idle tenants that would be lifted anyway, and the ones closest to it if many."""
        now = self.virtual_time
        while self._idle and (self._idle[0][0] <= now or len(self._idle) > _MAX_REMEMBERED):
            counter, name = heappop(self._idle)
            owner = self._tenants.get(name)
            if owner is not None and not owner.is_active and owner.counter == counter:
                del self._tenants[name]
