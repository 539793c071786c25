from adapter_cache.cache_metrics import CacheMetrics
from contracts.errors import EngineFailed
from contracts.replica import SlotReport
from replicas.replica_metrics import ReplicaMetrics


async def lines_of(metrics: ReplicaMetrics) -> list[str]:
    return (await metrics.render()).decode().splitlines()


async def test_slots_stand_beside_the_caches_counts() -> None:
    cache = CacheMetrics()

    async def slots() -> SlotReport:
        return SlotReport(num_slots=8, used=3, hits=10, misses=4, evictions=1)

    cache.refused.inc()
    lines = await lines_of(ReplicaMetrics(cache, slots))
    for line in (
        "flora_slots 8.0",
        "flora_slots_used 3.0",
        "flora_slots_hits_total 10.0",
        "flora_slots_misses_total 4.0",
        "flora_slots_evictions_total 1.0",
        "flora_cache_refused_total 1.0",
    ):
        assert line in lines
    assert "# TYPE flora_slots_hits_total counter" in lines
    assert not [line for line in lines if "flora_lora_slots" in line]


async def test_lora_slots_are_counted_apart() -> None:
    async def slots() -> SlotReport:
        return SlotReport(8, 3, 10, 4, 1, lora=SlotReport(2, 1, 5, 6, 7, waiting=3))

    lines = await lines_of(ReplicaMetrics(CacheMetrics(), slots))
    for line in (
        "flora_slots 8.0",
        "flora_lora_slots 2.0",
        "flora_lora_slots_used 1.0",
        "flora_lora_slots_hits_total 5.0",
        "flora_lora_slots_misses_total 6.0",
        "flora_lora_slots_evictions_total 7.0",
        "flora_lora_slots_waiting 3.0",
    ):
        assert line in lines


async def test_an_engine_that_does_not_answer_is_left_out() -> None:
    reports: list[SlotReport] = []

    async def slots() -> SlotReport:
        if not reports:
            raise EngineFailed("dead")
        return reports.pop()

    metrics = ReplicaMetrics(CacheMetrics(), slots)
    assert "flora_slots 8.0" not in await lines_of(metrics)
    reports.append(SlotReport(8, 0, 0, 0, 0))
    assert "flora_slots 8.0" in await lines_of(metrics)
    lines = await lines_of(metrics)
    assert not [line for line in lines if line.startswith("flora_slots")]
    assert "flora_cache_refused_total 0.0" in lines
