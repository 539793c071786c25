"""The fair queue by its definition: every decision looks at all tenants and all requests."""

from dataclasses import dataclass, field

from replicas.fair_limits import FairLimits


@dataclass
class Asked:
    tenant: str
    weight: float
    num_seqs: int
    prompt_tokens: int
    is_running: bool = False
    has_tokens: bool = False


@dataclass
class SlowQueue:
    """Same calls and same answers as FairQueue, tenants are never forgotten."""

    limits: FairLimits
    requests: dict[int, Asked] = field(default_factory=dict)  # in the order of arrival
    counters: dict[str, float] = field(default_factory=dict)
    lifted_to: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    since: dict[str, int] = field(default_factory=dict)
    ended_s: dict[str, float] = field(default_factory=dict)
    now_s: float = 0.0
    last_left: str = ""
    num_asked: int = 0
    num_events: int = 0

    def waiting(self, tenant: str | None = None) -> list[int]:
        return [
            i for i, r in self.requests.items() if not r.is_running and tenant in (None, r.tenant)
        ]

    def running(self, tenant: str | None = None) -> list[Asked]:
        return [r for r in self.requests.values() if r.is_running and tenant in (None, r.tenant)]

    def backlogged(self) -> list[str]:
        return list(dict.fromkeys(self.requests[i].tenant for i in self.waiting()))

    @property
    def virtual_time(self) -> float:
        counters = [self.counters[t] for t in self.backlogged()]
        return min(counters, default=self.counters.get(self.last_left, 0.0))

    def add(
        self, tenant: str, weight: float, num_seqs: int, prompt_tokens: int
    ) -> tuple[int, set[int]]:
        """The id, and the requests of which one has to go if one has to."""
        self.num_asked += 1
        lengths = {t: len(self.waiting(t)) for t in self.backlogged()}
        shed: set[int] = set()
        if len(self.waiting()) >= self.limits.max_waiting:
            longest = max(lengths.values())
            if lengths.get(tenant, 0) >= longest:
                return self.num_asked, {self.num_asked}
            shed = {self.waiting(t)[-1] for t, n in lengths.items() if n == longest}
        self.arriving = Asked(
            tenant, weight, min(num_seqs, self.limits.max_num_seqs), prompt_tokens
        )
        return self.num_asked, shed

    def accept(self) -> None:
        """Whoever had to go has gone."""
        new = self.arriving
        if not self.waiting(new.tenant):
            if self.counters.get(new.tenant, 0.0) <= self.virtual_time:
                self.counters[new.tenant] = self.lifted_to[new.tenant] = self.virtual_time
            self._mark(new.tenant)
        self.weights[new.tenant] = new.weight
        self.requests[self.num_asked] = new

    def active(self) -> set[str]:
        here = {r.tenant for r in self.requests.values()}
        lately = {
            t for t, end_s in self.ended_s.items() if end_s + self.limits.active_s > self.now_s
        }
        return here | lately

    def num_seqs(self, tenants: set[str]) -> int:
        return sum(r.num_seqs for r in self.running() if r.tenant in tenants)

    def is_fresh(self, tenant: str) -> bool:
        return self.counters[tenant] <= self.lifted_to[tenant] + self.limits.burst_cost

    def held(self) -> float:
        """What those who come now and then leave unused of their shares."""
        early = {t for t in self.active() if t not in self.backlogged() or self.is_fresh(t)}
        total = sum(self.weights[t] for t in self.active())
        share = self.limits.max_num_seqs * sum(self.weights[t] for t in early) / total
        return self.limits.held_share * max(0.0, share - self.num_seqs(early))

    def fits(self, tenant: str) -> bool:
        request, is_fresh = self.requests[self.waiting(tenant)[0]], self.is_fresh(tenant)
        room: float = self.limits.max_running_seqs
        if not is_fresh:
            room = self.limits.max_num_seqs - self.held()
        prefill = sum(r.prompt_tokens for r in self.running() if not r.has_tokens)
        fits_prefill = prefill + request.prompt_tokens <= (
            self.limits.max_prefill_tokens * (2 if is_fresh else 1)
        )
        num_seqs = sum(r.num_seqs for r in self.running()) + request.num_seqs
        return num_seqs <= room and (not prefill or fits_prefill)

    def pick(self) -> int | None:
        order = sorted(self.backlogged(), key=lambda t: (self.counters[t], self.since[t]))
        # All are first in turn; fresh ones are also where the others have no room.
        chosen = order[0] if order and self.fits(order[0]) else None
        if chosen is None and order and not self.is_fresh(order[0]):
            fresh = [t for t in order if self.is_fresh(t)]
            chosen = fresh[0] if fresh and self.fits(fresh[0]) else None
        if chosen is None:
            return None
        picked = self.waiting(chosen)[0]
        request = self.requests[picked]
        request.is_running = True
        self._mark(chosen)
        self._left(chosen)
        self.counters[chosen] += self.limits.prompt_cost * request.prompt_tokens / request.weight
        return picked

    def charge(self, request_id: int, num_tokens: int) -> None:
        request = self.requests[request_id]
        self.counters[request.tenant] += self.limits.token_cost * num_tokens / request.weight
        request.has_tokens |= num_tokens > 0

    def leave(self, request_id: int) -> None:
        request = self.requests.pop(request_id, None)
        if request is not None and not request.is_running:
            self._left(request.tenant)
        if request is not None and request.tenant not in {r.tenant for r in self.requests.values()}:
            self.ended_s[request.tenant] = self.now_s

    def _mark(self, tenant: str) -> None:
        self.num_events += 1
        self.since[tenant] = self.num_events

    def _left(self, tenant: str) -> None:
        if not self.waiting(tenant):
            self.last_left = tenant
