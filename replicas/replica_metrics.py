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
        yield from _families("flora_slots", "adapters", report)
        if report.lora is not None:
            yield from _families("flora_lora_slots", "LoRA adapters", report.lora)
            text = "Requests that wait for a slot of a LoRA adapter."
            yield GaugeMetricFamily("flora_lora_slots_waiting", text, report.lora.waiting)


def _families(name: str, what: str, report: SlotReport) -> Iterator[Metric]:
    yield GaugeMetricFamily(name, f"Device slots for {what}.", report.num_slots)
    yield GaugeMetricFamily(f"{name}_used", f"Device slots that hold {what}.", report.used)
    for count, text in (
        ("hits", f"Requests whose {what} were in their slots."),
        ("misses", f"Requests whose {what} were loaded first."),
        ("evictions", f"How many {what} lost their slots to others."),
    ):
        yield CounterMetricFamily(f"{name}_{count}", text, getattr(report, count))
