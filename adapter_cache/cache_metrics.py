"""What the adapter cache counts, in Prometheus' form. No labels by tenant or adapter."""

from collections.abc import Callable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# From a file on tmpfs to a store at its timeout.
_BUCKETS_S = (
    *(0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)


class TierUsage(Protocol):
    """How full a tier is, and how much it has thrown out since this process started."""

    @property
    def used_bytes(self) -> int: ...
    @property
    def budget_bytes(self) -> int: ...
    @property
    def evictions(self) -> int: ...


class TierMeter:
    """The counts of one tier, found once so that counting costs no look-up of labels."""

    def __init__(self, metrics: "CacheMetrics", tier: str) -> None:
        self.hits, self.misses, self.corrupt, self.errors = (
            metrics.requests.labels(tier, result) for result in ("hit", "miss", "corrupt", "error")
        )
        self.read_bytes = metrics.read_bytes.labels(tier)
        self.seconds = metrics.seconds.labels(tier)
        self.refills = metrics.refills.labels(tier)
        self.refill_failures = metrics.refill_failures.labels(tier)


class CacheMetrics:
    """Counters of one process's adapter cache, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._counter(
            "flora_cache_requests", "Adapters asked of a tier.", "tier", "result"
        )
        self.read_bytes = self._counter(
            "flora_cache_read_bytes", "Bytes of adapters read from a tier, right ones.", "tier"
        )
        self.seconds = Histogram(
            "flora_cache_seconds",
            "Time in which a tier answered; for the node, in which it verified and wrote a file.",
            ("tier",),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.refills = self._counter(
            "flora_cache_refills", "Adapters given back to a tier that lacked them.", "tier"
        )
        self.refill_failures = self._counter(
            "flora_cache_refill_failures", "Refills that failed or were left out.", "tier"
        )
        self.refused = self._counter("flora_cache_refused", "Fetches refused: too many pending.")
        self.pending = self._gauge("flora_cache_pending", "Fetches that have not ended.")
        self.pending_bytes = self._gauge("flora_cache_pending_bytes", "Their adapters' bytes.")
        self._usage = _UsageCollector()
        self.registry.register(self._usage)

    def meter(self, tier: str) -> TierMeter:
        """The counts of `tier`, all shown as 0 from now on."""
        return TierMeter(self, tier)

    def watch_usage(self, tier: str, usage: Callable[[], TierUsage]) -> None:
        """Show what `usage` says at each scrape; it must be quick. OSError leaves the tier out."""
        self._usage.tiers[tier] = usage

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)


class _UsageCollector(Collector):
    """Asks each tier once a scrape, so that its three numbers belong together."""

    def __init__(self) -> None:
        self.tiers: dict[str, Callable[[], TierUsage]] = {}

    def collect(self) -> Iterator[Metric]:
        evictions = CounterMetricFamily(
            "flora_cache_evictions", "Adapters thrown out of a tier.", labels=("tier",)
        )
        used = GaugeMetricFamily(
            "flora_cache_used_bytes", "Bytes of adapters in a tier.", labels=("tier",)
        )
        budget = GaugeMetricFamily(
            "flora_cache_budget_bytes", "Bytes that a tier may hold.", labels=("tier",)
        )
        for tier, usage in self.tiers.items():
            try:
                found = usage()
            except OSError:
                continue
            evictions.add_metric((tier,), found.evictions)
            used.add_metric((tier,), found.used_bytes)
            budget.add_metric((tier,), found.budget_bytes)
        yield from (evictions, used, budget)
