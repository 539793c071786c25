import asyncio
import logging

import pytest

from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.refills import Refills
from tests.adapter_cache.adapters import digest_of, make_blob
from tests.adapter_cache.tiers import FakeTier, SkippingLoop, count, others_done


class Parts:
    def __init__(self, max_running: int = 4) -> None:
        self.tier = FakeTier("redis")
        self.metrics = CacheMetrics()
        self.meter = self.metrics.meter("redis")
        self.refills = Refills(max_running, timeout_s=10.0)

    def start(self, seed: int) -> None:
        blob = make_blob(seed)
        self.refills.start(self.tier, self.meter, digest_of(blob), blob)

    @property
    def counts(self) -> tuple[float, float]:
        """Refills that were done, and those that were not."""
        done = count(self.metrics, "flora_cache_refills_total", "redis")
        return done, count(self.metrics, "flora_cache_refill_failures_total", "redis")


async def test_a_refill_arrives_later() -> None:
    parts = Parts()
    parts.start(1)
    assert parts.tier.given == []
    await others_done()
    assert parts.tier.blobs == {digest_of(make_blob(1)): make_blob(1)}
    assert (parts.counts, len(parts.refills)) == ((1, 0), 0)


async def test_more_than_may_run_are_left_out_and_counted() -> None:
    parts = Parts(max_running=3)
    parts.tier.gate.clear()
    for seed in range(10):
        parts.start(seed)
    assert len(parts.refills) == 3
    parts.tier.gate.set()
    await others_done()
    assert parts.counts == (3, 7)
    parts.start(11)
    await others_done()
    assert parts.counts == (4, 7)


async def test_an_outage_is_counted_each_time_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = Parts()
    caplog.set_level(logging.WARNING, "adapter_cache")
    for mood in ("down", "up", "down"):
        parts.tier.mood = mood
        for seed in range(3):
            parts.start(seed)
            await others_done()
    assert parts.counts == (3, 6)
    assert caplog.messages == ["cannot refill redis: redis cannot be reached"] * 2


def test_a_stall_ends_in_time(caplog: pytest.LogCaptureFixture) -> None:
    async def play() -> tuple[float, float]:
        parts = Parts()
        parts.tier.mood, parts.tier.fails_after_s = "stalled", 11.0
        parts.start(1)
        await others_done()
        return parts.counts

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        assert runner.run(play()) == (0, 1)
    assert caplog.messages == ["cannot refill redis: no answer in time"]


async def test_close_cancels_what_runs() -> None:
    parts = Parts()
    parts.tier.gate.clear()
    parts.start(1)
    await asyncio.sleep(0)
    await parts.refills.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (parts.tier.blobs, len(parts.refills)) == ({}, 0)
