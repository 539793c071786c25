"""A replica's entry, read from the very pages that a replica writes."""

from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.cache_metrics import CacheMetrics
from app.replica_entry import MAX_RESIDENTS, replica_entry
from app.replica_state import ReplicaState
from contracts.replica import ReplicaReport, SlotReport
from replicas.queue_metrics import QueueMetrics
from replicas.replica_metrics import ReplicaMetrics

LORA = SlotReport(4, 2, 20, 3, 1, waiting=5)


class Usage:
    used_bytes, budget_bytes, evictions = 1000, 4000, 2


async def page(slots: SlotReport, hits: int, misses: int) -> bytes:
    cache = CacheMetrics()
    for name in ("node", "redis", "store"):
        meter = cache.meter(name)
        meter.hits.inc(hits)
        meter.misses.inc(misses)
        meter.read_bytes.inc(77)
    cache.watch_usage("node", Usage)
    queue = QueueMetrics(cache.registry)
    queue.waiting.set(6)
    queue.running_seqs.set(7)
    queue.tokens.add("acme", 30)
    queue.tokens.add("globex", 12)

    async def told() -> SlotReport:
        return slots

    return await ReplicaMetrics(cache, told).render()


@given(
    st.builds(
        SlotReport, *[st.integers(0, 2**40)] * 5, lora=st.none() | st.just(LORA), waiting=st.just(0)
    ),
    st.integers(0, 2**40),
    st.integers(0, 2**40),
)
async def test_every_number_of_the_page_is_in_its_place(
    slots: SlotReport, hits: int, misses: int
) -> None:
    report = ReplicaReport(3, 500, 2, (0xABC, 2**64 - 1))
    entry = replica_entry(ReplicaState("r1", "tiny", await page(slots, hits, misses), report))
    assert entry["answers"] is True
    assert entry["slots"] == {
        "total": slots.num_slots,
        "used": slots.used,
        "hits": slots.hits,
        "misses": slots.misses,
        "evictions": slots.evictions,
    }
    lora = {"total": 4, "used": 2, "hits": 20, "misses": 3, "evictions": 1}
    assert entry["lora_slots"] == (lora if slots.lora else None)
    assert [tier["name"] for tier in entry["tiers"]] == ["node", "redis", "store"]
    for tier in entry["tiers"]:
        assert (tier["hits"], tier["misses"], tier["read_bytes"]) == (hits, misses, 77)
        assert (tier["corrupt"], tier["errors"]) == (0, 0)
        used = (1000, 4000, 2) if tier["name"] == "node" else (None, None, None)
        assert (tier["used_bytes"], tier["budget_bytes"], tier["evictions"]) == used
    assert (entry["waiting"], entry["running"], entry["generated_tokens"]) == (6, 7, 42)
    assert (entry["load_tokens"], entry["num_residents"]) == (500, 2)
    assert entry["residents"] == ["0000000000000abc", "f" * 16]


def test_a_silent_replica_has_no_numbers() -> None:
    entry = replica_entry(ReplicaState("r1", "tiny", None, None))
    assert (entry["id"], entry["answers"], entry["residents"]) == ("r1", False, [])
    told = {name for name, value in entry.items() if value not in (None, [], False)}
    assert told == {"id", "object", "model"}


def test_residents_are_counted_all_and_named_in_part() -> None:
    report = ReplicaReport(1, 0, 0, tuple(range(1000)))
    entry = replica_entry(ReplicaState("r1", "tiny", b"", report))
    assert entry["num_residents"] == 1000
    assert entry["residents"] == [f"{word:016x}" for word in range(MAX_RESIDENTS)]


@given(st.binary(max_size=200))
def test_a_page_that_cannot_be_read_is_a_replica_without_numbers(text: bytes) -> None:
    entry = replica_entry(ReplicaState("r1", "tiny", b"flora_slots{" + text, None))
    assert (entry["answers"], entry["slots"], entry["tiers"]) == (True, None, [])
