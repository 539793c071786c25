"""What a door counts, in Prometheus' form. No labels by tenant or adapter: they are millions."""

from collections.abc import Callable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from adapter_cache.loop_metrics import LoopTasks

_RESOLVE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)

_WINDOW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_WINDOW_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


class DoorMetrics:
    """Counters of one ingress process, in a registry of their own.

    `door_id` tells it from the others behind the same address.
    """

    def __init__(self, door_id: str = "") -> None:
        self.door_id = door_id
        self.registry = CollectorRegistry()
        self.registry.register(LoopTasks())
        self.windows = self._counter("flora_windows", "Windows of requests that were opened.")
        self.requests = self._counter("flora_requests", "Prompts that entered a window.")
        self.step_messages = self._counter(
            "flora_step_messages", "Messages from replicas: one an engine step and stream."
        )
        self.tokens = self._counter("flora_generated_tokens", "Tokens that arrived from replicas.")
        self.running = self._sum("flora_running_requests", "Prompts that have not ended.")
        self.resolve_seconds = self._histogram(
            "flora_registry_resolve_seconds",
            "The one look-up of a window's adapters, failed ones too.",
            _RESOLVE_BUCKETS_S,
        )
        self.waiting = self._sum("flora_waiting_requests", "Prompts that wait for a window.")
        self.window_requests = self._histogram(
            "flora_window_requests", "Prompts of one window.", _WINDOW_BUCKETS
        )
        self.window_wait_seconds = self._histogram(
            "flora_window_wait_seconds",
            "From a prompt's admission to the opening of its window.",
            _WINDOW_BUCKETS_S,
        )
        self.shed = self._counter(
            "flora_shed_requests", "Prompts refused because a bounded queue was full.", "bound"
        )
        self.rate_limited = self._counter(
            "flora_rate_limited_requests", "Prompts refused by a quota.", "limit"
        )
        self.quota_fallbacks = self._counter(
            "flora_quota_fallbacks", "Prompts that a door charged by itself, without the store."
        )
        self.registry_rebuilds = self._counter(
            "flora_registry_rebuilds", "Rebuilds of the registry from the object store."
        )

        self.num_stale_answers: Callable[[], int] = lambda: 0
        self.watch(
            "flora_registry_stale_answers",
            "Names answered from memory while the registry was away.",
            lambda: self.num_stale_answers(),
        )

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def watch(self, name: str, text: str, count: Callable[[], int]) -> None:
        """Show at each scrape what somebody else counts."""
        self.registry.register(_Watched(name, text, count))

    def _sum(self, name: str, text: str) -> list[Callable[[], int]]:
        """A gauge of what all in the list say: each base model has its own."""
        parts: list[Callable[[], int]] = []
        gauge = Gauge(name, text, registry=self.registry)
        gauge.set_function(lambda: sum(part() for part in parts))
        return parts

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(name, text, buckets=buckets, registry=self.registry)


class _Watched(Collector):
    def __init__(self, name: str, text: str, count: Callable[[], int]) -> None:
        self._name, self._text, self._count = name, text, count

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(self._name, self._text, self._count())
