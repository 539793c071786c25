"""What requests' lives add to the page: driven by hand, and by a real window."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from adapter_cache.store import MemoryStore
from app.ask import Ask
from app.dispatcher import LocalDispatcher
from app.request_metrics import RequestMetrics
from app.request_observer import RequestEnd
from app.window import Window
from contracts.access import Caller
from contracts.adapters import Digest, TenantId
from contracts.generation import Sampling
from tests.app.parts import CountingReplica


def make_caller(tenant: str) -> Caller:
    return Caller("k", TenantId(tenant), frozenset())


def make_end(outcome: str = "stop", prompt: int = 5, generated: int = 3) -> RequestEnd:
    return RequestEnd(outcome, prompt, 2, generated, 0.1, 0.5, Digest(""))


def page(registry: CollectorRegistry) -> dict[tuple[str, ...], float]:
    """Name and label values of each sample."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {(s.name, *s.labels.values()): s.value for f in families for s in f.samples}


def test_the_first_gap_is_the_first_token_and_the_others_are_between_tokens() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    caller = make_caller("t")
    metrics.began("a", caller)
    metrics.generated("a", caller, 1, 0.2)
    metrics.generated("a", caller, 1, 0.03)
    metrics.generated("a", caller, 2, 0.05)
    metrics.ended("a", caller, "m", make_end())
    found = page(registry)
    assert found["flora_time_to_first_token_seconds_count",] == 1
    assert found["flora_time_to_first_token_seconds_sum",] == 0.2
    assert found["flora_inter_token_seconds_count",] == 2
    assert found["flora_inter_token_seconds_sum",] == 0.08
    assert found["flora_request_seconds_sum",] == 0.5
    assert found["flora_prompt_tokens_total",] == 5
    assert found["flora_cached_prompt_tokens_total",] == 2


def test_a_request_without_a_token_leaves_nothing_behind() -> None:
    metrics = RequestMetrics(CollectorRegistry())
    metrics.began("a", make_caller("t"))
    metrics.ended("a", make_caller("t"), "m", make_end("overloaded", generated=0))
    assert not metrics._waiting


def test_tenants_beyond_the_bound_share_a_name() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry, max_tenants=2)
    for number in range(50):
        metrics.ended(f"r{number}", make_caller(f"t{number}"), "m", make_end())
    found = page(registry)
    requests = {key[1]: value for key, value in found.items() if "tenant_requests" in key[0]}
    assert len(requests) == 3
    assert sum(requests.values()) == 50
    tokens = [v for k, v in found.items() if k[0] == "flora_tenant_usage_tokens_total"]
    assert sum(tokens) == 50 * (5 + 2 + 3)


async def test_a_window_feeds_it() -> None:
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    dispatcher = LocalDispatcher(CountingReplica())
    window = Window(MemoryStore(), dispatcher, store_timeout_s=0.2, observers=(metrics,))
    asks = [
        Ask(f"r{n}", "tiny", None, (1, 2), Sampling(4), make_caller(f"t{n % 2}")) for n in range(4)
    ]
    for stream in window.open(asks):
        assert [len(burst) async for burst in stream]
    await window.aclose()
    found = page(registry)
    assert found["flora_requests_ended_total", "length"] == 4
    assert found["flora_time_to_first_token_seconds_count",] == 4
    assert found["flora_inter_token_seconds_count",] == 12
    assert found["flora_tenant_usage_tokens_total", "generated", "t0"] == 8
