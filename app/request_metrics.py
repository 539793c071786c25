"""Times, tokens and outcomes of requests, in Prometheus' form. A RequestObserver."""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from app.histogram import FastHistogram
from app.request_observer import RequestEnd
from app.tenant_counts import TenantCounts, TenantUse
from contracts.access import Caller

_TOKEN_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5),
)
_FIRST_TOKEN_BUCKETS_S = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0),
)
_REQUEST_BUCKETS_S = (
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0),
)


class RequestMetrics(Collector):
    """One ingress process's requests, `max_tenants` tenants of them by name.

    `age_s` says how long ago the request of a prompt began; for those that it does not know, the
    opening of the window counts.

    `generated` runs for each request at each engine step: it looks up one set and one bucket.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        max_tenants: int = 100,
        age_s: Callable[[str], float | None] = lambda _: None,
    ) -> None:
        self._age_s = age_s
        self._first_token = FastHistogram(_FIRST_TOKEN_BUCKETS_S)
        self._inter_token = FastHistogram(_TOKEN_BUCKETS_S)
        self._duration = FastHistogram(_REQUEST_BUCKETS_S)
        self._waiting: set[str] = set()
        self._outcomes: Counter[str] = Counter()
        self._num_prompt_tokens = self._num_cached_tokens = 0
        self._tenants = TenantCounts(max_tenants)
        registry.register(self)

    def began(self, request_id: str, caller: Caller) -> None:
        """See RequestObserver."""
        self._waiting.add(request_id)

    def generated(self, request_id: str, caller: Caller, num_tokens: int, gap_s: float) -> None:
        """See RequestObserver."""
        if request_id in self._waiting:
            self._waiting.discard(request_id)
            age_s = self._age_s(request_id)
            self._first_token.observe(gap_s if age_s is None else age_s)
        else:
            self._inter_token.observe(gap_s)

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        """See RequestObserver."""
        self._waiting.discard(request_id)
        self._duration.observe(end.duration_s)
        self._outcomes[end.outcome] += 1
        self._num_prompt_tokens += end.num_prompt_tokens
        self._num_cached_tokens += end.num_cached_tokens
        use = TenantUse(1, end.num_prompt_tokens, end.num_cached_tokens, end.num_generated_tokens)
        self._tenants.add(caller.tenant, use)

    def collect(self) -> Iterator[Metric]:
        """What a scrape shows."""
        yield self._first_token.family(
            "flora_time_to_first_token_seconds", "From a request's first byte to its first token."
        )
        yield self._inter_token.family(
            "flora_inter_token_seconds", "Between two steps that gave a request tokens."
        )
        yield self._duration.family(
            "flora_request_seconds", "From the window's opening to the end of a request."
        )
        outcomes = CounterMetricFamily(
            "flora_requests_ended", "Requests that ended, by how.", labels=("outcome",)
        )
        for outcome, count in self._outcomes.items():
            outcomes.add_metric((outcome,), count)
        yield outcomes
        yield CounterMetricFamily(
            "flora_prompt_tokens", "Prompt tokens of ended requests.", self._num_prompt_tokens
        )
        yield CounterMetricFamily(
            "flora_cached_prompt_tokens",
            "Those of them that the engine had in its prefix cache.",
            self._num_cached_tokens,
        )
        yield from self._by_tenant()

    def _by_tenant(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "flora_tenant_requests", "Ended requests by tenant.", labels=("tenant",)
        )
        tokens = CounterMetricFamily(
            "flora_tenant_usage_tokens",
            "Tokens of ended requests by tenant.",
            labels=("tenant", "kind"),
        )
        for tenant, use in self._tenants.items():
            requests.add_metric((tenant,), use.num_requests)
            tokens.add_metric((tenant, "prompt"), use.num_prompt_tokens)
            tokens.add_metric((tenant, "cached"), use.num_cached_tokens)
            tokens.add_metric((tenant, "generated"), use.num_generated_tokens)
        yield from (requests, tokens)
