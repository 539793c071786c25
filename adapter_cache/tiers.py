"""The tiers behind the node cache, walked in order until one has the bytes."""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

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
        self._clock = clock
        self._rng = rng
        *self._uppers, self._last = (MeteredTier(tier, metrics, clock) for tier in tiers)

    async def bring(self, digest: Digest, deadline_s: float) -> Path:
        """The node's file of `digest`, verified.

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
                            return await self._walk(digest, end_s)
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

    async def _walk(self, digest: Digest, end_s: float) -> Path:
        lacking: list[MeteredTier] = []
        for position, tier in enumerate(self._uppers):
            if tier.rests:
                continue
            # An equal share of the time that is left: the tiers after it need theirs.
            left_s = end_s - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(left_s / (len(self._uppers) - position + 1)):
                    blob = await tier.read(digest)
            except (StoreUnavailable, TimeoutError) as error:
                tier.rest(error)
                continue
            path = await self._land(tier, digest, blob, lacking)
            if path is not None:
                return path
        path = await self._land(self._last, digest, await self._last.read(digest), lacking)
        if path is None:
            raise AdapterCorrupt(f"no tier has the bytes of adapter {digest}")
        return path

    async def _land(
        self, tier: MeteredTier, digest: Digest, blob: bytes | None, lacking: list[MeteredTier]
    ) -> Path | None:
        """The node's file; None, and one more tier in `lacking`, without the right bytes."""
        if blob is None:
            tier.meter.misses.inc()
            lacking.append(tier)
            return None
        started_s = self._clock()
        try:
            # Hashing and writing take a thread: half a megabyte would hold the loop.
            path = await asyncio.to_thread(self._cache.put, digest, blob)
        except AdapterCorrupt as error:
            tier.meter.corrupt.inc()
            _log.warning("wrong bytes in %s: %s", tier.blobs.name, error)
            lacking.append(tier)
            return None
        except Overloaded:
            tier.count_hit(blob)
            raise
        self._node.seconds.observe(self._clock() - started_s)
        tier.count_hit(blob)
        for other in lacking:
            self._refills.start(other.blobs, other.meter, digest, blob)
        return path
