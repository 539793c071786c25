"""The tiers behind the node cache, walked in order until one has the bytes."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from adapter_cache.arrival import Arrival
from adapter_cache.blobs import BlobTier
from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.metered_tier import MeteredTier
from adapter_cache.node_cache import NodeCache
from adapter_cache.refills import Refills
from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt, DeadlineExceeded, Overloaded, StoreUnavailable

_log = logging.getLogger(__name__)

_FIRST_DELAY_S = 0.05
_MAX_DELAY_S = 1.0


class Tiers:
    """Brings bytes from the first tier that has them to the node; the last tier is the truth.

    A tier that misses, fails, dawdles or holds wrong bytes is passed over; one that failed rests
    for a moment, so that an outage does not cost every fetch its timeout. When the last tier fails,
    the walk is repeated after a random, growing delay. At most `max_parallel` walks at once.
    """

    def __init__(
        self,
        cache: NodeCache,
        tiers: Sequence[BlobTier],
        refills: Refills,
        metrics: CacheMetrics,
        *,
        max_parallel: int,
        clock: Callable[[], float] = time.monotonic,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._cache = cache
        self._refills = refills
        self._node = metrics.meter("node")
        self._places = asyncio.Semaphore(max_parallel)
        # Of its own: threads that a dead server holds up must not keep others from writing.
        self._readers = ThreadPoolExecutor(max_parallel, thread_name_prefix="fetch")
        self._clock = clock
        self._rng = rng
        *self._uppers, self._last = (MeteredTier(tier, metrics, clock) for tier in tiers)

    async def bring(self, digest: Digest, deadline_s: float, size_bytes: int = 0) -> Path:
        """The node's file of `digest`, verified. `size_bytes` is what it should have.

        Raises AdapterCorrupt when no tier has the right bytes, Overloaded when the node has no
        room, and at the end of `deadline_s` StoreUnavailable or DeadlineExceeded.
        """
        outage: StoreUnavailable | None = None
        max_delay_s = _FIRST_DELAY_S
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_s
        try:
            async with asyncio.timeout_at(end_s):
                while True:
                    try:
                        async with self._places:
                            return await self._walk(digest, size_bytes, end_s)
                    except StoreUnavailable as error:
                        outage = error
                    # The place is free meanwhile. A delay beyond the end would help nobody.
                    delay_s = self._rng() * max_delay_s
                    max_delay_s = min(2 * max_delay_s, _MAX_DELAY_S)
                    if loop.time() + delay_s >= end_s:
                        break
                    await asyncio.sleep(delay_s)
        except TimeoutError:
            pass
        late = f"adapter {digest} was not on the node within {deadline_s} s"
        raise outage or DeadlineExceeded(late)

    def close(self) -> None:
        """No more reads; those at work end by themselves."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    async def _walk(self, digest: Digest, size_bytes: int, end_s: float) -> Path:
        lacking: list[MeteredTier] = []
        for position, tier in enumerate(self._uppers):
            if tier.rests:
                continue
            # An equal share of the time that is left: the tiers after it need theirs.
            left_s = end_s - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(left_s / (len(self._uppers) - position + 1)):
                    found = await self._find(tier, digest, size_bytes)
            except (StoreUnavailable, TimeoutError) as error:
                tier.rest(error)
                continue
            path = await self._settle(tier, digest, found, lacking)
            if path is not None:
                return path
        found = await self._find(self._last, digest, size_bytes)
        path = await self._settle(self._last, digest, found, lacking)
        if path is None:
            raise AdapterCorrupt(f"no tier has the bytes of adapter {digest}")
        return path

    async def _find(
        self, tier: MeteredTier, digest: Digest, size_bytes: int
    ) -> "bytes | Landing | None":
        """What the tier has; where it is streamed, on the node already."""
        if not tier.is_streamed:
            return await tier.read(digest)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._carry, tier, digest, size_bytes)

    async def _settle(
        self,
        tier: MeteredTier,
        digest: Digest,
        found: "bytes | Landing | None",
        lacking: list[MeteredTier],
    ) -> Path | None:
        """The node's file; None, and one more tier in `lacking`, without the right bytes."""
        if found is None:
            tier.meter.misses.inc()
            lacking.append(tier)
            return None
        if isinstance(found, bytes):
            # Hashing and writing take a thread: half a megabyte would hold the loop.
            found = await asyncio.to_thread(self._put, digest, Arrival([found]))
        if isinstance(found.outcome, AdapterCorrupt):
            tier.meter.corrupt.inc()
            _log.warning("wrong bytes in %s: %s", tier.blobs.name, found.outcome)
            lacking.append(tier)
            return None
        tier.count_hit(found.arrival.size_bytes)
        if isinstance(found.outcome, Overloaded):
            raise found.outcome
        for other in lacking:
            self._refills.start(other.blobs, other.meter, digest, found.arrival.joined())
        return found.outcome

    def _carry(self, tier: MeteredTier, digest: Digest, size_bytes: int) -> "Landing | None":
        """From a streamed tier to the node, in one thread. Raises StoreUnavailable."""
        arrival = Arrival()
        has_bytes = tier.read_streamed(digest, size_bytes, arrival)
        return self._put(digest, arrival) if has_bytes else None

    def _put(self, digest: Digest, arrival: Arrival) -> "Landing":
        started_s = self._clock()
        try:
            path = self._cache.put(digest, arrival)
        except (AdapterCorrupt, Overloaded) as error:
            return Landing(arrival, error)
        self._node.seconds.observe(self._clock() - started_s)
        return Landing(arrival, path)


@dataclass(frozen=True, slots=True)
class Landing:
    """Bytes that a tier gave, and what became of them on the node."""

    arrival: Arrival
    outcome: Path | AdapterCorrupt | Overloaded
