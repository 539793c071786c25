"""What a door counts of the ways to its replicas."""

from prometheus_client import CollectorRegistry, Counter


class RoutingMetrics:
    """The FailoverObserver of one ingress process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._placed = Counter(
            "flora_routed_requests",
            "Prompts sent to a replica, by why there.",
            ["why"],
            registry=registry,
        )
        self._lost = Counter(
            "flora_lost_requests",
            "Prompts that lost their replica, by the error.",
            ["error"],
            registry=registry,
        )

    def placed(self, why: str, number: int) -> None:
        """See FailoverObserver."""
        self._placed.labels(why).inc(number)

    def lost(self, why: str, number: int) -> None:
        """See FailoverObserver."""
        self._lost.labels(why).inc(number)
