"""Records on their way: none lost while the sink is away, none waits, bounded, sent at the end."""

import asyncio
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from app.request_observer import RequestEnd
from app.telemetry_config import UsageSettings
from app.usage_log import UsageLog, UsageRecord
from contracts.access import Caller
from contracts.adapters import Digest, TenantId
from contracts.errors import StoreUnavailable

CALLER = Caller("key1", TenantId("acme"), frozenset())
END = RequestEnd("stop", 7, 2, 3, 0.1, 0.5, Digest("d" * 64))


class FakeSink:
    """Keeps what it gets; while `is_away` it fails, half of a batch kept."""

    def __init__(self) -> None:
        self.is_away = False
        self.records: list[UsageRecord] = []
        self.batches: list[int] = []

    async def append(self, records: Sequence[UsageRecord]) -> None:
        await asyncio.sleep(0)
        if self.is_away:
            self.records += records[: len(records) // 2]
            raise StoreUnavailable("away")
        self.records += records
        self.batches.append(len(records))


def make_log(
    sink: FakeSink, registry: CollectorRegistry | None = None, max_pending: int = 1000
) -> UsageLog:
    settings = UsageSettings(max_pending=max_pending, flush_s=0.001)
    return UsageLog(sink, settings, registry or CollectorRegistry(), lambda: 1234.5)


def end(log: UsageLog, *names: str) -> None:
    for name in names:
        log.ended(name, CALLER, "tiny:a", END)


async def until(done: object, limit_s: float = 5.0) -> None:
    assert callable(done)
    async with asyncio.timeout(limit_s):
        while not done():  # noqa: ASYNC110  # the log says nothing by itself
            await asyncio.sleep(0.001)


async def test_a_record_has_all_that_a_bill_needs() -> None:
    sink = FakeSink()
    log = make_log(sink)
    end(log, "r1")
    assert await log.flush()
    assert sink.records == [
        UsageRecord(1234.5, "acme", "key1", "r1", "tiny:a", "d" * 64, "stop", 7, 2, 3, 0.5)
    ]


async def test_what_the_sink_does_not_take_waits_and_comes_in_order() -> None:
    sink = FakeSink()
    sink.is_away = True
    log = make_log(sink)
    running = asyncio.create_task(log.run())
    end(log, "a", "b", "c", "d")
    await until(lambda: len(sink.records) >= 4)
    sink.is_away = False
    end(log, "e")
    await until(lambda: sink.batches)
    running.cancel()
    # Twice where nobody knew whether it was kept; each at least once, in order at the end.
    assert [r.request_id for r in sink.records][-5:] == list("abcde")


async def test_more_than_may_wait_is_counted_and_dropped() -> None:
    registry = CollectorRegistry()
    log = make_log(FakeSink(), registry, max_pending=3)
    end(log, *"abcde")
    assert registry.get_sample_value("flora_usage_records_dropped_total") == 2
    assert registry.get_sample_value("flora_usage_records_pending") == 3
    assert await log.flush()
    assert registry.get_sample_value("flora_usage_records_total") == 3
    assert registry.get_sample_value("flora_usage_records_pending") == 0


async def test_large_piles_go_in_bounded_batches() -> None:
    sink = FakeSink()
    log = make_log(sink, max_pending=2000)
    end(log, *(f"r{n}" for n in range(200)))
    assert await log.flush()
    assert sink.batches == [64] * 3 + [8]
    assert len({r.request_id for r in sink.records}) == 200


async def test_the_end_writes_what_is_left() -> None:
    sink = FakeSink()
    log = make_log(sink)
    end(log, "a", "b")
    await log.aclose(1.0)
    assert [r.request_id for r in sink.records] == ["a", "b"]


async def test_the_end_does_not_wait_for_a_sink_that_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sink, registry = FakeSink(), CollectorRegistry()
    sink.is_away = True
    log = make_log(sink, registry)
    end(log, "a", "b")
    await log.aclose(0.02)
    assert registry.get_sample_value("flora_usage_records_dropped_total") == 2
    assert "usage records lost" in caplog.text
