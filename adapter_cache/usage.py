"""How often adapters are asked for, over all replicas, and the fake of it."""

from collections import Counter
from collections.abc import Mapping
from typing import Protocol

from contracts.adapters import AdapterRef


class AdapterUsage(Protocol):
    """Approximate and recent; refs have no version. May raise StoreUnavailable."""

    async def add(self, counts: Mapping[AdapterRef, int]) -> None:
        """Count requests of each adapter."""
        ...

    async def most_used(self, limit: int) -> list[AdapterRef]:
        """At most `limit` refs, the most asked for first."""
        ...


class MemoryUsage:
    """AdapterUsage in one process, for tests; forgets nothing."""

    def __init__(self) -> None:
        self._counts: Counter[AdapterRef] = Counter()

    async def add(self, counts: Mapping[AdapterRef, int]) -> None:
        self._counts.update(counts)

    async def most_used(self, limit: int) -> list[AdapterRef]:
        return [ref for ref, _ in self._counts.most_common(limit)]
