"""One tier with its counts, and whether it is left alone. Knows nothing of other tiers."""

import asyncio
import logging
from collections.abc import Callable

from adapter_cache.arrival import Arrival
from adapter_cache.blobs import BlobTier, StreamedTier
from adapter_cache.cache_metrics import CacheMetrics
from contracts.adapters import Digest
from contracts.errors import StoreUnavailable

_log = logging.getLogger(__name__)

_REST_S = 1.0


class MeteredTier:
    """A tier that failed rests for a second: an outage must not cost every fetch its time."""

    def __init__(self, blobs: BlobTier, metrics: CacheMetrics, clock: Callable[[], float]) -> None:
        self.blobs = blobs
        self.meter = metrics.meter(blobs.name)
        self._clock = clock
        self._rests_until_s = -float("inf")
        self._is_failing = False

    @property
    def is_streamed(self) -> bool:
        return isinstance(self.blobs, StreamedTier)

    def read_streamed(self, digest: Digest, size_bytes: int, arrival: Arrival) -> bool:
        """See StreamedTier.read; counts as `read` does. Blocks."""
        assert isinstance(self.blobs, StreamedTier)
        started_s = self._clock()
        try:
            has_bytes = self.blobs.read(digest, size_bytes, arrival)
        except StoreUnavailable:
            self.meter.errors.inc()
            raise
        self._is_failing = False
        self.meter.seconds.observe(self._clock() - started_s)
        return has_bytes

    async def read(self, digest: Digest) -> bytes | None:
        """See BlobTier.get; counts errors and time, and leaves the outcome to who verifies."""
        started_s = self._clock()
        try:
            blob = await self.blobs.get(digest)
        except (StoreUnavailable, asyncio.CancelledError):
            # Cancelled: its time was over.
            self.meter.errors.inc()
            raise
        self._is_failing = False
        self.meter.seconds.observe(self._clock() - started_s)
        return blob

    def count_hit(self, size_bytes: int) -> None:
        """It had the right bytes."""
        self.meter.hits.inc()
        self.meter.read_bytes.inc(size_bytes)

    @property
    def rests(self) -> bool:
        """Whether it is to be passed over now."""
        return self._clock() < self._rests_until_s

    def rest(self, error: Exception) -> None:
        """Leave it alone for a moment; logged when a run of failures begins."""
        self._rests_until_s = self._clock() + _REST_S
        if not self._is_failing:
            self._is_failing = True
            _log.warning("passing over %s: %s", self.blobs.name, str(error) or "no answer in time")
