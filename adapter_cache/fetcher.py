"""From the tiers to the node cache, each digest once at a time. Knows nothing of engines."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from adapter_cache.blobs import BlobTier
from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.config import CacheConfig
from adapter_cache.flights import Flight, Flights
from adapter_cache.missing import MissingDigests
from adapter_cache.node_cache import NodeCache
from adapter_cache.refills import Refills
from adapter_cache.tiers import Tiers
from contracts.adapters import AdapterKey
from contracts.errors import AdapterCorrupt, NotReady, Overloaded

# Refills hold their bytes: a few for each fetch at work, so that a burst is not lost.
_REFILLS_A_PLACE = 4


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What fetches may use.

    `max_parallel` read at once; beyond `max_pending` fetches, or `max_pending_bytes` of them, one
    is refused. `deadline_s` bounds one from its start, the wait for its turn included. What no tier
    has is not asked for again for `negative_ttl_s`.
    """

    max_parallel: int = 8
    max_pending: int = 1024
    max_pending_bytes: int = 1 << 30
    deadline_s: float = 10.0
    negative_ttl_s: float = 2.0

    @classmethod
    def of(cls, config: CacheConfig) -> Self:
        """The limits that the settings name."""
        return cls(
            max_parallel=config.max_parallel_fetches,
            max_pending=config.max_pending_fetches,
            max_pending_bytes=config.max_pending_bytes,
            deadline_s=config.fetch_timeout_s,
            negative_ttl_s=config.negative_ttl_s,
        )


class AdapterFetcher:
    """Brings blobs to the node from `tiers`, fastest first, of which the last holds the truth.

    One flight a digest, whoever waits for it. Bytes are verified once, by the thread that writes
    them; tiers that lacked them are filled again in the background. Bound to the event loop that
    first uses it. `clock` gives seconds, `rng` numbers from 0 to 1 that spread repeated reads.
    """

    def __init__(
        self,
        cache: NodeCache,
        tiers: Sequence[BlobTier],
        *,
        limits: FetchLimits,
        metrics: CacheMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        if not tiers:
            raise ValueError("a fetcher needs at least one tier")
        metrics = metrics or CacheMetrics()
        self._cache = cache
        self._deadline_s = limits.deadline_s
        self._refills = Refills(_REFILLS_A_PLACE * limits.max_parallel, limits.deadline_s)
        self._tiers = Tiers(
            cache,
            tiers,
            self._refills,
            metrics,
            max_parallel=limits.max_parallel,
            clock=clock,
            rng=rng,
        )
        self._flights = Flights(limits.max_pending, limits.max_pending_bytes)
        self._missing = MissingDigests(limits.negative_ttl_s, limits.max_pending, clock)
        self._is_closed = False
        self._node = metrics.meter("node")
        self._refused = metrics.refused
        metrics.watch_usage("node", cache.usage)
        metrics.pending.set_function(lambda: len(self._flights))
        metrics.pending_bytes.set_function(lambda: self._flights.pending_bytes)

    async def ensure(self, key: AdapterKey) -> Path:
        """The node's file of `key`'s bytes, verified when it was written.

        It may be evicted at any time; `hold` keeps it. Not for the base model, which has no bytes.
        Raises StoreUnavailable, AdapterCorrupt (missing or wrong bytes in every tier),
        DeadlineExceeded, Overloaded (no room on the node, or too many fetches) or NotReady.
        """
        path = self._cache.get(key.digest)
        if path is not None:
            self._node.hits.inc()
            return path
        self._node.misses.inc()
        flight = self._flights.find(key.digest) or self._launch(key)
        # Unlike awaiting it, this leaves the flight alone when the caller is cancelled.
        await asyncio.wait((flight,))
        return flight.result()

    @asynccontextmanager
    async def hold(self, key: AdapterKey) -> AsyncIterator[Path]:
        """`ensure`, and keep the file on the node until the block ends."""
        path = self._cache.pin(key.digest)
        if path is not None:
            self._node.hits.inc()
        while path is None:
            await self.ensure(key)
            path = self._cache.pin(key.digest)
        try:
            yield path
        finally:
            self._cache.unpin(key.digest)

    async def close(self) -> None:
        """Cancel flights and refills; who waits is cancelled with them. None starts any more."""
        self._is_closed = True
        await self._flights.close()
        await self._refills.close()
        self._tiers.close()

    def __repr__(self) -> str:
        return f"<AdapterFetcher {len(self._flights)} in flight, {self._cache!r}>"

    def _launch(self, key: AdapterKey) -> Flight:
        if self._is_closed:
            raise NotReady("the adapter cache is stopping")
        if key.digest in self._missing:
            raise AdapterCorrupt(f"no tier had the bytes of adapter {key.digest} a moment ago")
        try:
            return self._flights.launch(key, lambda: self._fly(key))
        except Overloaded:
            self._refused.inc()
            raise

    async def _fly(self, key: AdapterKey) -> Path:
        try:
            return await self._tiers.bring(key.digest, self._deadline_s, key.size_bytes)
        except AdapterCorrupt:
            self._missing.add(key.digest)
            raise
