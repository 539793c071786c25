"""Gives a tier back what it lacked, in the background. Nothing waits for it."""

import asyncio
import logging

from adapter_cache.blobs import BlobTier
from adapter_cache.cache_metrics import TierMeter
from contracts.adapters import Digest
from contracts.errors import StoreUnavailable

_log = logging.getLogger(__name__)


class Refills:
    """At most `max_running` at once, which bounds the bytes they hold; more are left out.

    Each ends within `timeout_s`. A tier's failures are counted, and logged when they begin.
    """

    def __init__(self, max_running: int, timeout_s: float) -> None:
        self._max_running = max_running
        self._timeout_s = timeout_s
        self._running: set[asyncio.Task[None]] = set()
        self._failing: set[str] = set()

    def start(self, tier: BlobTier, meter: TierMeter, digest: Digest, blob: bytes) -> None:
        """Put verified bytes into `tier` at some time soon, or not at all."""
        if len(self._running) >= self._max_running:
            meter.refill_failures.inc()
            return
        refill = asyncio.create_task(
            self._refill(tier, meter, digest, blob), name=f"refill {digest[:12]}"
        )
        self._running.add(refill)
        refill.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Cancel what runs: whoever misses the bytes next starts over."""
        running = list(self._running)
        for refill in running:
            refill.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._running)

    async def _refill(self, tier: BlobTier, meter: TierMeter, digest: Digest, blob: bytes) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await tier.put(digest, blob)
        except (StoreUnavailable, TimeoutError) as error:
            meter.refill_failures.inc()
            if tier.name not in self._failing:
                self._failing.add(tier.name)
                _log.warning("cannot refill %s: %s", tier.name, str(error) or "no answer in time")
        else:
            meter.refills.inc()
            self._failing.discard(tier.name)
