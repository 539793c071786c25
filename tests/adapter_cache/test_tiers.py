import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.node_cache import NodeCache
from adapter_cache.refills import Refills
from adapter_cache.tiers import Tiers
from contracts.errors import AdapterCorrupt, DeadlineExceeded, Overloaded, StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob
from tests.adapter_cache.tiers import (
    FakeClock,
    FakeTier,
    SkippingLoop,
    count,
    files_in,
    others_done,
    skip,
)

BLOB = make_blob(1)
DIGEST = digest_of(BLOB)


class Parts:
    """Redis over a store that has BLOB."""

    def __init__(
        self, directory: Path, max_parallel: int = 4, max_bytes: int = 10_000, rng: float = 0.0
    ) -> None:
        self.directory = directory
        self.redis, self.store = FakeTier("redis"), FakeTier("store", [BLOB])
        self.cache = NodeCache(directory, max_bytes)
        self.metrics = CacheMetrics()
        self.clock = FakeClock()
        self.tiers = Tiers(
            self.cache,
            [self.redis, self.store],
            Refills(4, 10.0),
            self.metrics,
            max_parallel=max_parallel,
            clock=self.clock,
            rng=lambda: rng,
        )

    async def bring(self, blob: bytes = BLOB, deadline_s: float = 30.0) -> bytes:
        path = await self.tiers.bring(digest_of(blob), deadline_s)
        await others_done()
        return path.read_bytes()

    def counts(self, tier: str) -> dict[str, float]:
        """Requests of a tier by result, without zeros."""
        found = {
            result: count(self.metrics, "flora_cache_requests_total", tier, result)
            for result in ("hit", "miss", "corrupt", "error")
        }
        return {result: number for result, number in found.items() if number}


def run_skipping(play: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await play()

    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        runner.run(main())


async def test_the_first_tier_that_has_the_bytes_is_the_last_one_asked(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.redis.blobs[DIGEST] = BLOB
    assert await parts.bring() == BLOB
    assert (parts.store.asked, parts.store.given, parts.redis.given) == ([], [], [])
    assert (parts.counts("redis"), parts.counts("store")) == ({"hit": 1}, {})
    assert count(parts.metrics, "flora_cache_read_bytes_total", "redis") == len(BLOB)


@pytest.mark.parametrize(
    ("content", "result"),
    [(None, "miss"), (make_blob(2), "corrupt"), (b"", "corrupt")],
    ids=["missing", "corrupt", "empty"],
)
async def test_a_tier_that_lacked_the_bytes_is_filled_again(
    tmp_path: Path, content: bytes | None, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    parts = Parts(tmp_path)
    if content is not None:
        parts.redis.blobs[DIGEST] = content
    assert await parts.bring() == BLOB
    assert parts.redis.blobs == {DIGEST: BLOB}
    assert (parts.counts("redis"), parts.counts("store")) == ({result: 1}, {"hit": 1})
    assert count(parts.metrics, "flora_cache_refills_total", "redis") == 1
    # Wrong bytes are news, absent ones are not.
    assert len(caplog.messages) == (result == "corrupt")
    parts.cache.drop(DIGEST)
    assert await parts.bring() == BLOB
    assert parts.counts("redis") == {result: 1, "hit": 1}


async def test_nobody_waits_for_a_refill(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    path = await parts.tiers.bring(DIGEST, 30.0)
    parts.redis.gate.clear()
    assert path.read_bytes() == BLOB
    assert parts.redis.blobs == {}
    parts.redis.gate.set()
    await others_done()
    assert parts.redis.blobs == {DIGEST: BLOB}


async def test_an_outage_of_redis_goes_unnoticed_and_costs_one_fetch_a_moment(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "adapter_cache")
    parts = Parts(tmp_path)
    parts.redis.mood = "down"
    for _ in range(3):
        assert await parts.bring() == BLOB
        parts.cache.drop(DIGEST)
    assert (len(parts.redis.asked), parts.redis.given) == (1, [])
    parts.clock.now_s += 1.1
    assert await parts.bring() == BLOB
    assert len(parts.redis.asked) == 2
    assert caplog.messages == ["passing over redis: redis cannot be reached"]
    parts.cache.drop(DIGEST)
    parts.clock.now_s += 1.1
    parts.redis.mood = "up"
    assert await parts.bring() == BLOB
    assert parts.redis.blobs == {DIGEST: BLOB}
    assert parts.counts("redis") == {"error": 2, "miss": 1}


def test_a_stalled_redis_leaves_the_store_its_share_of_the_time(tmp_path: Path) -> None:
    async def play() -> None:
        parts = Parts(tmp_path)
        parts.redis.mood, parts.redis.fails_after_s = "stalled", 15.0
        assert await parts.bring() == BLOB
        assert (parts.counts("redis"), parts.counts("store")) == ({"error": 1}, {"hit": 1})

    run_skipping(play)


async def test_a_short_outage_of_the_store_costs_time_alone(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.store.mood = "down"
    bringing = asyncio.create_task(parts.tiers.bring(DIGEST, 30.0))
    await parts.store.until_asked(3)
    parts.store.mood = "up"
    assert (await bringing).read_bytes() == BLOB
    assert parts.counts("store") == {"error": len(parts.store.asked) - 1, "hit": 1}


@pytest.mark.parametrize("rng", [0.0, 0.5, 1.0])
def test_a_long_outage_of_the_store_is_told_within_the_deadline(tmp_path: Path, rng: float) -> None:
    async def play() -> None:
        parts = Parts(tmp_path, rng=rng)
        parts.store.mood, parts.store.fails_after_s = "down", 9.0
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        with pytest.raises(StoreUnavailable, match="store cannot be reached"):
            await parts.tiers.bring(DIGEST, 20.0)
        # The third answer comes after the end: nobody waits for it.
        assert len(parts.store.asked) == 3
        assert loop.time() - started_s < 30.0
        assert parts.counts("store") == {"error": 3}

    run_skipping(play)


def test_a_delay_that_would_pass_the_end_is_not_waited_for(tmp_path: Path) -> None:
    async def play() -> None:
        parts = Parts(tmp_path, rng=1.0)
        parts.store.mood, parts.store.fails_after_s = "down", 9.99
        with pytest.raises(StoreUnavailable):
            await parts.tiers.bring(DIGEST, 10.0)
        assert len(parts.store.asked) == 1

    run_skipping(play)


def test_a_store_that_never_answers_ends_at_the_deadline(tmp_path: Path) -> None:
    async def play() -> None:
        parts = Parts(tmp_path)
        parts.store.mood, parts.store.fails_after_s = "stalled", 10.0
        with pytest.raises(DeadlineExceeded, match=DIGEST):
            await parts.tiers.bring(DIGEST, 10.0)
        assert parts.counts("store") == {"error": 1}

    run_skipping(play)


async def test_the_place_is_free_between_two_tries(tmp_path: Path) -> None:
    parts = Parts(tmp_path, max_parallel=1, rng=1.0)
    parts.redis.blobs[DIGEST] = BLOB
    parts.store.mood = "down"
    waiting = asyncio.create_task(parts.tiers.bring(digest_of(make_blob(2)), 30.0))
    await parts.store.until_asked(2)
    assert await parts.tiers.bring(DIGEST, 30.0) == tmp_path / DIGEST
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize("content", [None, make_blob(3)], ids=["missing", "corrupt"])
async def test_what_the_last_tier_lacks_nobody_has(tmp_path: Path, content: bytes | None) -> None:
    parts = Parts(tmp_path)
    del parts.store.blobs[DIGEST]
    if content is not None:
        parts.store.blobs[DIGEST] = content
    parts.redis.mood = "down"
    with pytest.raises(AdapterCorrupt, match=DIGEST):
        await parts.bring()
    assert len(parts.store.asked) == 1
    assert files_in(tmp_path) == set()


async def test_a_node_without_room_refuses_at_once(tmp_path: Path) -> None:
    parts = Parts(tmp_path, max_bytes=len(BLOB) - 1)
    with pytest.raises(Overloaded):
        await parts.bring()
    assert (len(parts.store.asked), parts.redis.given) == (1, [])
    assert parts.counts("store") == {"hit": 1}


def test_delays_grow_up_to_a_second_for_as_long_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    async def sleep(delay_s: float) -> None:
        delays.append(delay_s)
        skip(delay_s)

    async def play() -> None:
        parts = Parts(tmp_path, rng=1.0)
        parts.store.mood = "down"
        with pytest.raises(StoreUnavailable):
            await parts.tiers.bring(DIGEST, 3600.0)

    monkeypatch.setattr("adapter_cache.tiers.asyncio.sleep", sleep)
    run_skipping(play)
    assert delays[:6] == [0.05, 0.1, 0.2, 0.4, 0.8, 1.0]
    assert set(delays[6:]) == {1.0}
    assert 3590 < sum(delays) < 3600
