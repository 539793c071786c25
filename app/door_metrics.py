"""What a door counts, in Prometheus' form. No labels by tenant or adapter: they are millions."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_RESOLVE_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class DoorMetrics:
    """Counters of one ingress process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.windows = self._counter("flora_windows", "Windows of requests that were opened.")
        self.requests = self._counter("flora_requests", "Prompts that entered a window.")
        self.step_messages = self._counter(
            "flora_step_messages", "Messages from replicas: one an engine step and group."
        )
        self.tokens = self._counter("flora_generated_tokens", "Tokens that arrived from replicas.")
        self.running = Gauge(
            "flora_running_requests", "Prompts that have not ended.", registry=self.registry
        )
        self.resolve_seconds = Histogram(
            "flora_registry_resolve_seconds",
            "The one look-up of a window's adapters, failed ones too.",
            buckets=_RESOLVE_BUCKETS_S,
            registry=self.registry,
        )
        self.registry_rebuilds = self._counter(
            "flora_registry_rebuilds", "Rebuilds of the registry from the object store."
        )

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self.registry)
