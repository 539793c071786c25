"""What each tenant used, for a bounded number of tenants: the ones that use most, and the rest.

Pure. Who deserves numbers of its own is found with the counters of Metwally, Agrawal and Abbadi,
"Efficient computation of frequent and top-k elements in data streams" (ICDT 2005).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from contracts.adapters import TenantId

OTHER = "_other"
"""Stands for all tenants without numbers of their own; no tenant can be called so."""
_HALVE_AFTER = 1024.0


@dataclass(slots=True)
class TenantUse:
    """Sums since the tenant has numbers of its own."""

    num_requests: int = 0
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0

    def add(self, more: "TenantUse") -> None:
        self.num_requests += more.num_requests
        self.num_prompt_tokens += more.num_prompt_tokens
        self.num_cached_tokens += more.num_cached_tokens
        self.num_generated_tokens += more.num_generated_tokens


class TenantCounts:
    """At most `max_tenants` tenants by name, and OTHER; together they are exact.

    No sum ever falls while its name is shown: a tenant that gets numbers of its own starts at
    zero, and what one had that loses them goes to OTHER. Old use counts half after every
    `1024 * max_tenants` requests.
    """

    def __init__(self, max_tenants: int) -> None:
        self._max_tenants = max_tenants
        self._shown: dict[TenantId, TenantUse] = {}
        self._other = TenantUse()
        # Requests lately, of shown tenants and of as many more that may take their places.
        self._weights: dict[TenantId, float] = {}
        self._candidates: dict[TenantId, float] = {}
        self._least = 0.0  # no shown tenant weighs less
        self._until_halved = _HALVE_AFTER * max_tenants

    def add(self, tenant: TenantId, use: TenantUse) -> None:
        """Count `use` for `tenant`."""
        self._age(use.num_requests)
        if tenant in self._shown:
            self._weights[tenant] += use.num_requests
        elif not self._promoted(tenant, self._weighed(tenant, use.num_requests)):
            self._other.add(use)
            return
        self._shown[tenant].add(use)

    def items(self) -> Iterator[tuple[str, TenantUse]]:
        """Each name with its sums, OTHER last."""
        yield from self._shown.items()
        yield OTHER, self._other

    def _weighed(self, tenant: TenantId, weight: float) -> float:
        """What a tenant that is not shown weighs by now."""
        candidates = self._candidates
        if tenant not in candidates and len(candidates) >= self._max_tenants:
            # The newcomer inherits the least weight: it may have come before.
            least = min(candidates, key=candidates.__getitem__)
            candidates[tenant] = candidates.pop(least)
        candidates[tenant] = candidates.get(tenant, 0.0) + weight
        return candidates[tenant]

    def _promoted(self, tenant: TenantId, weight: float) -> bool:
        """Whether `tenant` has numbers of its own from now on, for which another may have to go."""
        if len(self._shown) >= self._max_tenants:
            # Twice as much: equals must not take turns.
            if weight <= 2 * self._least:
                return False
            least = min(self._weights, key=self._weights.__getitem__)
            self._least = self._weights[least]
            if weight <= 2 * self._least:
                return False
            self._candidates[least] = self._weights.pop(least)
            self._other.add(self._shown.pop(least))
        self._weights[tenant] = self._candidates.pop(tenant)
        self._shown[tenant] = TenantUse()
        return True

    def _age(self, weight: float) -> None:
        self._until_halved -= weight
        if self._until_halved > 0:
            return
        self._until_halved = _HALVE_AFTER * self._max_tenants
        self._least /= 2
        for weights in (self._weights, self._candidates):
            for name in weights:
                weights[name] /= 2
