import asyncio
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.node_cache import NodeCache
from tests.adapter_cache.adapters import make_blob, make_key
from tests.adapter_cache.tiers import FakeTier, count, others_done

TIERS = st.sampled_from(["node", "redis", "store"])


@dataclass(frozen=True)
class Usage:
    used_bytes: int
    budget_bytes: int
    evictions: int


def samples(metrics: CacheMetrics) -> dict[tuple[str, str], float]:
    """What a scrape shows: (name, label values in order of the labels' names) -> value."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, ",".join(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_a_tier_is_shown_before_it_is_used() -> None:
    metrics = CacheMetrics()
    metrics.meter("redis")
    shown = samples(metrics)
    for result in ("hit", "miss", "corrupt", "error"):
        assert shown["flora_cache_requests_total", f"{result},redis"] == 0
    for name in ("read_bytes_total", "seconds_count", "refills_total", "refill_failures_total"):
        assert shown[f"flora_cache_{name}", "redis"] == 0
    for name in ("refused_total", "pending", "pending_bytes"):
        assert shown[f"flora_cache_{name}", ""] == 0


def test_seconds_have_buckets_from_fifty_microseconds_to_ten_seconds() -> None:
    metrics = CacheMetrics()
    metrics.meter("redis").seconds.observe(0.0004)
    shown = samples(metrics)
    assert shown["flora_cache_seconds_bucket", "5e-05,redis"] == 0
    assert shown["flora_cache_seconds_bucket", "0.0005,redis"] == 1
    assert shown["flora_cache_seconds_bucket", "10.0,redis"] == 1


@given(st.lists(st.tuples(TIERS, st.sampled_from(["hits", "misses", "corrupt", "errors"]))))
def test_every_count_arrives_at_its_own_series(events: list[tuple[str, str]]) -> None:
    metrics = CacheMetrics()
    meters = {tier: metrics.meter(tier) for tier in ("node", "redis", "store")}
    for tier, outcome in events:
        getattr(meters[tier], outcome).inc()
    shown = samples(metrics)
    results = {"hits": "hit", "misses": "miss", "corrupt": "corrupt", "errors": "error"}
    for tier in meters:
        for outcome, result in results.items():
            found = shown["flora_cache_requests_total", f"{result},{tier}"]
            assert found == events.count((tier, outcome))


def test_usage_is_asked_for_once_a_scrape_and_may_fail() -> None:
    metrics = CacheMetrics()
    asked: list[str] = []

    def usage() -> Usage:
        asked.append("node")
        return Usage(used_bytes=7, budget_bytes=9, evictions=3)

    def gone() -> Usage:
        raise FileNotFoundError("the cache's directory was removed")

    metrics.watch_usage("node", usage)
    metrics.watch_usage("device", gone)
    asked.clear()
    shown = samples(metrics)
    assert asked == ["node"]
    assert shown["flora_cache_used_bytes", "node"] == 7
    assert shown["flora_cache_budget_bytes", "node"] == 9
    assert shown["flora_cache_evictions_total", "node"] == 3
    assert ("flora_cache_used_bytes", "device") not in shown


async def test_a_fetcher_shows_the_node_without_reading_its_directory(tmp_path: Path) -> None:
    blobs = [make_blob(seed, 100) for seed in range(5)]
    metrics, cache = CacheMetrics(), NodeCache(tmp_path, 300)
    fetcher = AdapterFetcher(
        cache, [FakeTier("redis"), FakeTier("store", blobs)], limits=FetchLimits(), metrics=metrics
    )
    await asyncio.gather(*(fetcher.ensure(make_key(blob)) for blob in blobs))
    await others_done()
    cache.residents = None  # type: ignore[assignment, method-assign]  # reads the directory
    shown = samples(metrics)
    assert shown["flora_cache_used_bytes", "node"] == cache.usage().used_bytes <= 300
    assert shown["flora_cache_budget_bytes", "node"] == 300
    assert shown["flora_cache_evictions_total", "node"] == cache.usage().evictions >= 2
    assert shown["flora_cache_seconds_count", "node"] == 5
    assert shown["flora_cache_read_bytes_total", "store"] == 500
    assert shown["flora_cache_refills_total", "redis"] == 5


def test_registries_are_apart() -> None:
    first, second = CacheMetrics(), CacheMetrics()
    first.refused.inc()
    assert count(first, "flora_cache_refused_total") == 1
    assert count(second, "flora_cache_refused_total") == 0
