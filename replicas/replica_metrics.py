"""One replica's page for Prometheus: what its cache counts, and its device slots."""

import logging
from collections.abc import Awaitable, Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.loop_metrics import LoopTasks
from contracts.errors import ServingError
from contracts.replica import SlotReport

_LOG = logging.getLogger(__name__)


class ReplicaMetrics:
    """Adds what `slots` reports to `cache`'s registry."""

    def __init__(self, cache: CacheMetrics, slots: Callable[[], Awaitable[SlotReport]]) -> None:
        self._cache = cache
        self._slots = slots
        self._collector = _SlotCollector()
        cache.registry.register(self._collector)
        cache.registry.register(LoopTasks())

    async def render(self) -> bytes:
        """The text that Prometheus scrapes; without the slots of an engine that does not answer."""
        try:
            self._collector.report = await self._slots()
        except ServingError as error:
            _LOG.warning("the engine's slots cannot be counted: %s", error)
            self._collector.report = None
        return self._cache.render()


class _SlotCollector(Collector):
    report: SlotReport | None = None

    def collect(self) -> Iterator[Metric]:
        if (report := self.report) is None:
            return
        yield GaugeMetricFamily("flora_slots", "Device slots for adapters.", report.num_slots)
        yield GaugeMetricFamily("flora_slots_used", "Device slots that hold one.", report.used)
        yield CounterMetricFamily(
            "flora_slots_hits", "Requests whose adapter was in its slot.", report.hits
        )
        yield CounterMetricFamily(
            "flora_slots_misses", "Requests whose adapter was loaded first.", report.misses
        )
        yield CounterMetricFamily(
            "flora_slots_evictions", "Adapters that lost their slot to another.", report.evictions
        )
