"""A record of each finished request, for whoever writes the bills. Knows nothing of Redis."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from app.request_observer import RequestEnd
from app.telemetry_config import UsageSettings
from contracts.access import Caller
from contracts.errors import StoreUnavailable

_LOG = logging.getLogger(__name__)
_MAX_BATCH = 64
"""Records of one write: the client packs it in the event loop, some milliseconds for so many."""


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One finished prompt. `request_id` is unique: a record that is there twice counts once.

    `time_s` is its end in Unix time. `digest` names the adapter's bytes, empty for the base model.
    """

    time_s: float
    tenant: str
    key_id: str
    request_id: str
    model: str
    digest: str
    outcome: str
    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int
    duration_s: float


class UsageSink(Protocol):
    """Where records are kept."""

    async def append(self, records: Sequence[UsageRecord]) -> None:
        """Keep all of `records`, in their order. Raises StoreUnavailable; some may be kept then."""
        ...


class UsageLog:
    """A RequestObserver that writes to `sink` in the background, and holds what it does not take.

    Nothing is lost while the sink is away, up to `max_pending` records; more are counted and
    dropped. A process that is killed loses what it holds. What may have been written is written
    again after an error.
    """

    def __init__(
        self,
        sink: UsageSink,
        settings: UsageSettings,
        registry: CollectorRegistry,
        clock: Callable[[], float],
    ) -> None:
        self._sink = sink
        self._settings = settings
        self._clock = clock
        self._pending: deque[UsageRecord] = deque()
        self._wake = asyncio.Event()
        self._is_failing = False
        self._written = Counter(
            "flora_usage_records", "Usage records that the store has taken.", registry=registry
        )
        self._dropped = Counter(
            "flora_usage_records_dropped", "Usage records that were lost.", registry=registry
        )
        Gauge(
            "flora_usage_records_pending", "Usage records on their way.", registry=registry
        ).set_function(lambda: len(self._pending))

    def began(self, request_id: str, caller: Caller) -> None:
        """See RequestObserver."""

    def generated(self, request_id: str, caller: Caller, num_tokens: int, gap_s: float) -> None:
        """See RequestObserver."""

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        """See RequestObserver."""
        if len(self._pending) >= self._settings.max_pending:
            self._dropped.inc()
            return
        self._pending.append(
            UsageRecord(
                time_s=self._clock(),
                tenant=caller.tenant,
                key_id=caller.key_id,
                request_id=request_id,
                model=model,
                digest=end.digest,
                outcome=end.outcome,
                num_prompt_tokens=end.num_prompt_tokens,
                num_cached_tokens=end.num_cached_tokens,
                num_generated_tokens=end.num_generated_tokens,
                duration_s=end.duration_s,
            )
        )
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(self._settings.flush_s)
            await self.flush()

    async def flush(self) -> bool:
        """Write what there is; False where the sink does not take it now."""
        self._wake.clear()
        while self._pending:
            batch = list(islice(self._pending, _MAX_BATCH))
            try:
                await self._sink.append(batch)
            except StoreUnavailable as error:
                self._failed(error)
                return False
            for _ in batch:
                self._pending.popleft()
            self._written.inc(len(batch))
            self._is_failing = False
        return True

    async def aclose(self, timeout_s: float) -> None:
        """Write what is left; what does not go in time is counted and lost."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    if await self.flush():
                        return
                    await asyncio.sleep(self._settings.flush_s)
        except TimeoutError:
            _LOG.error("usage records lost at the end", extra={"records": len(self._pending)})
            self._dropped.inc(len(self._pending))
            self._pending.clear()

    def _failed(self, error: StoreUnavailable) -> None:
        if not self._is_failing:
            _LOG.warning("usage records wait: %s", error.message)
        self._is_failing = True
        self._wake.set()
