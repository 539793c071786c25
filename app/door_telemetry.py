"""All by which an ingress process says what it does: log, traces, counts, usage records."""

import asyncio
import time

from app.access_log import AccessLog
from app.config import Settings
from app.door_metrics import DoorMetrics
from app.logs import Logs
from app.observers import Observers
from app.otel_tracing import make_tracer
from app.recent_usage import RecentUsage
from app.redis_usage_log import RedisUsageLog
from app.request_metrics import RequestMetrics
from app.request_observer import RequestObserver
from app.request_spans import RequestSpans
from app.stores import Stores
from app.usage_log import UsageLog

_LAST_RECORDS_S = 1.0


class DoorTelemetry:
    """Built in the process that it speaks for, in its event loop. `observers` are the window's.

    `usage` reads the records of all processes, None where none are kept.
    """

    def __init__(self, settings: Settings, stores: Stores, metrics: DoorMetrics) -> None:
        self._logs = Logs(settings.log, "door")
        self._tracer = tracer = make_tracer(settings.tracing, "flora-door")
        registry = metrics.registry
        metrics.watch(
            "flora_log_lines_dropped",
            "Log lines that came faster than they could be written.",
            lambda: self._logs.num_dropped,
        )
        self.spans = RequestSpans(tracer)
        self.access = AccessLog(registry, tracer, is_behind_serve=True)
        requests = RequestMetrics(registry, settings.metrics.max_tenants, self.access.age_s)
        others: list[RequestObserver] = [self.access, self.spans]
        self._usage: UsageLog | None = None
        self.usage: RecentUsage | None = None
        if settings.usage.enabled:
            sink = RedisUsageLog(
                stores.clients,
                settings.cache.key_prefix,
                max_records=settings.usage.max_records,
            )
            self._usage = UsageLog(sink, settings.usage, registry, time.time)
            self._writing = asyncio.ensure_future(self._usage.run())
            others.append(self._usage)
            self.usage = RecentUsage(sink, time.time)
        self.observers = (Observers(requests, *others),)

    async def aclose(self) -> None:
        """Send what is left, after the last request and before the stores are closed."""
        if self._usage is not None:
            self._writing.cancel()
            await self._usage.aclose(_LAST_RECORDS_S)
        await asyncio.to_thread(self._tracer.close)
        await asyncio.to_thread(self._logs.close)
