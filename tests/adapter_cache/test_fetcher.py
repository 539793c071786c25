import asyncio
import contextlib
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.config import CacheConfig
from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.node_cache import NodeCache
from contracts.adapters import BASE, AdapterKey
from contracts.errors import AdapterCorrupt, DeadlineExceeded, NotReady, Overloaded
from tests.adapter_cache.adapters import digest_of, make_blob, make_key
from tests.adapter_cache.tiers import FakeClock, FakeTier, count

LIMITS = FetchLimits(max_parallel=4, deadline_s=30.0)


class Parts:
    """A fetcher over one tier with `blobs`, and all that a test looks at."""

    def __init__(
        self,
        directory: Path,
        blobs: list[bytes],
        limits: FetchLimits = LIMITS,
        max_bytes: int = 10_000,
    ) -> None:
        self.tier = FakeTier("store", blobs)
        self.cache = NodeCache(directory, max_bytes)
        self.metrics = CacheMetrics()
        self.clock = FakeClock()
        self.fetcher = AdapterFetcher(
            self.cache, [self.tier], limits=limits, metrics=self.metrics, clock=self.clock
        )

    def ask(self, blob: bytes) -> "asyncio.Task[Path]":
        return asyncio.create_task(self.fetcher.ensure(make_key(blob)))


async def test_two_hundred_callers_share_one_flight(tmp_path: Path) -> None:
    blob = make_blob(1)
    parts = Parts(tmp_path, [blob], replace(LIMITS, max_pending=1, max_pending_bytes=len(blob)))
    parts.tier.gate.clear()
    waiters = [parts.ask(blob) for _ in range(200)]
    await parts.tier.until_asked()
    assert count(parts.metrics, "flora_cache_pending") == 1
    assert count(parts.metrics, "flora_cache_pending_bytes") == len(blob)
    parts.tier.gate.set()
    paths = await asyncio.gather(*waiters)
    assert set(paths) == {tmp_path / digest_of(blob)}
    assert paths[0].read_bytes() == blob
    assert await parts.fetcher.ensure(make_key(blob, "other-name")) == paths[0]
    assert len(parts.tier.asked) == 1
    assert count(parts.metrics, "flora_cache_pending") == 0
    assert count(parts.metrics, "flora_cache_requests_total", "node", "miss") == 200
    assert count(parts.metrics, "flora_cache_requests_total", "node", "hit") == 1
    assert count(parts.metrics, "flora_cache_refused_total") == 0


async def test_a_thousand_digests_stay_within_the_bounds(tmp_path: Path) -> None:
    blobs = [make_blob(seed) for seed in range(1000)]
    limits = replace(LIMITS, max_parallel=3, max_pending=600, max_pending_bytes=50_000)
    parts = Parts(tmp_path, blobs, limits, max_bytes=200_000)
    parts.tier.gate.clear()
    waiters = [parts.ask(blob) for blob in blobs]
    await parts.tier.until_asked(3)
    # Five hundred of a hundred bytes are pending; the others were told at once.
    assert count(parts.metrics, "flora_cache_pending") == 500
    assert count(parts.metrics, "flora_cache_pending_bytes") == 50_000
    assert sum(waiter.done() for waiter in waiters) == 500
    assert len(parts.tier.asked) == 3
    parts.tier.gate.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    refused = [result for result in results if isinstance(result, Overloaded)]
    assert len(refused) == count(parts.metrics, "flora_cache_refused_total") == 500
    assert sum(isinstance(result, Path) for result in results) == 500
    assert (len(parts.tier.asked), parts.tier.max_now) == (500, 3)
    assert count(parts.metrics, "flora_cache_pending_bytes") == 0
    # What was refused may be asked for again.
    assert (await parts.fetcher.ensure(make_key(blobs[-1]))).read_bytes() == blobs[-1]


async def test_a_digest_that_nobody_has_is_not_asked_for_again_soon(tmp_path: Path) -> None:
    blob = make_blob(1)
    parts = Parts(tmp_path, [], replace(LIMITS, negative_ttl_s=2.0))
    waiters = [parts.ask(blob) for _ in range(5)]
    for result in await asyncio.gather(*waiters, return_exceptions=True):
        assert isinstance(result, AdapterCorrupt)
        assert digest_of(blob) in str(result)
    parts.tier.blobs[digest_of(blob)] = blob
    parts.clock.now_s += 1.9
    with pytest.raises(AdapterCorrupt, match="a moment ago"):
        await parts.fetcher.ensure(make_key(blob))
    assert len(parts.tier.asked) == 1
    parts.clock.now_s += 0.2
    assert (await parts.fetcher.ensure(make_key(blob))).read_bytes() == blob


async def test_without_a_negative_ttl_every_failure_is_forgotten(tmp_path: Path) -> None:
    blob = make_blob(1)
    parts = Parts(tmp_path, [], replace(LIMITS, negative_ttl_s=0.0))
    with pytest.raises(AdapterCorrupt):
        await parts.fetcher.ensure(make_key(blob))
    parts.tier.blobs[digest_of(blob)] = blob
    assert (await parts.fetcher.ensure(make_key(blob))).read_bytes() == blob


@pytest.mark.parametrize("num_cancelled", [1, 9, 10])
async def test_waiters_give_up_each_for_itself(tmp_path: Path, num_cancelled: int) -> None:
    blob = make_blob(1)
    parts = Parts(tmp_path, [blob])
    parts.tier.gate.clear()
    waiters = [parts.ask(blob) for _ in range(10)]
    await parts.tier.until_asked()
    for waiter in waiters[:num_cancelled]:
        waiter.cancel()
    parts.tier.gate.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    kinds = [type(result) for result in results[:num_cancelled]]
    assert kinds == [asyncio.CancelledError] * num_cancelled
    assert results[num_cancelled:] == [tmp_path / digest_of(blob)] * (10 - num_cancelled)
    # Even with nobody left to wait, the flight goes on, and the next caller joins it.
    assert await parts.fetcher.ensure(make_key(blob)) == parts.cache.get(digest_of(blob))
    assert len(parts.tier.asked) == 1


async def test_a_failure_with_no_waiter_left_is_silent(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [])
    parts.tier.gate.clear()
    waiter = parts.ask(make_blob(1))
    await parts.tier.until_asked()
    waiter.cancel()
    parts.tier.gate.set()
    with contextlib.suppress(asyncio.CancelledError):
        await waiter
    with pytest.raises(AdapterCorrupt):
        await parts.fetcher.ensure(make_key(make_blob(1)))
    assert "0 in flight" in repr(parts.fetcher)


async def test_the_deadline_counts_the_wait_for_a_place(tmp_path: Path) -> None:
    parts = Parts(tmp_path, [], replace(LIMITS, max_parallel=1, deadline_s=0.05))
    parts.tier.gate.clear()
    waiters = [parts.ask(make_blob(seed)) for seed in range(3)]
    results = await asyncio.gather(*waiters, return_exceptions=True)
    assert [type(result) for result in results] == [DeadlineExceeded] * 3
    # Two of them spent their time waiting for a place.
    assert len(parts.tier.asked) == 1


async def test_close_ends_the_flights_and_admits_none(tmp_path: Path) -> None:
    blob = make_blob(1)
    parts = Parts(tmp_path, [blob])
    parts.cache.put(digest_of(blob), blob)
    parts.tier.gate.clear()
    waiter = parts.ask(make_blob(2))
    await parts.tier.until_asked()
    await parts.fetcher.close()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert "0 in flight" in repr(parts.fetcher)
    with pytest.raises(NotReady):
        await parts.fetcher.ensure(make_key(make_blob(2)))
    # Requests that are still running may go on using what is here.
    async with parts.fetcher.hold(make_key(blob)) as path:
        assert path.read_bytes() == blob
    await parts.fetcher.close()


async def test_held_files_stay_whatever_else_arrives(tmp_path: Path) -> None:
    blobs = [make_blob(seed, 100) for seed in range(8)]
    parts = Parts(tmp_path, blobs, max_bytes=300)
    fetcher = parts.fetcher
    async with fetcher.hold(make_key(blobs[0])) as path, fetcher.hold(make_key(blobs[0])):
        for blob in blobs[1:]:
            await fetcher.ensure(make_key(blob))
        assert path.read_bytes() == blobs[0]
        parts.cache.check_integrity(read_blobs=True)
    assert parts.cache.drop(digest_of(blobs[0]))
    # One hold found the file, the other, and every ensure, had to fetch.
    assert count(parts.metrics, "flora_cache_requests_total", "node", "hit") == 1
    assert count(parts.metrics, "flora_cache_requests_total", "node", "miss") == 8


async def test_hold_brings_back_what_was_evicted_while_it_waited(tmp_path: Path) -> None:
    blobs = [make_blob(seed, 100) for seed in range(3)]
    parts = Parts(tmp_path, blobs, max_bytes=100)

    async def read(blob: bytes) -> bytes:
        async with parts.fetcher.hold(make_key(blob)) as path:
            return path.read_bytes()

    for blob in blobs * 3:
        assert await read(blob) == blob


async def test_bytes_are_verified_and_written_once_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = Parts(tmp_path, [make_blob(1)])
    threads: list[threading.Thread] = []
    put = parts.cache.put

    def recording_put(*args: object) -> Path:
        threads.append(threading.current_thread())
        return put(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(parts.cache, "put", recording_put)
    await parts.fetcher.ensure(make_key(make_blob(1)))
    assert len(threads) == 1
    assert threads != [threading.current_thread()]


@pytest.mark.parametrize("key", [BASE, AdapterKey(BASE.tenant, "x", 1, BASE.digest, 1)])
async def test_a_key_without_bytes_is_refused(tmp_path: Path, key: AdapterKey) -> None:
    parts = Parts(tmp_path, [])
    with pytest.raises(AdapterCorrupt):
        await parts.fetcher.ensure(key)
    assert parts.tier.asked == []


def test_a_fetcher_needs_a_tier(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tier"):
        AdapterFetcher(NodeCache(tmp_path, 100), [], limits=LIMITS)


def test_limits_come_from_the_settings() -> None:
    config = CacheConfig(
        max_parallel_fetches=1,
        max_pending_fetches=2,
        max_pending_bytes=3,
        fetch_timeout_s=4.0,
        negative_ttl_s=5.0,
    )
    assert FetchLimits.of(config) == FetchLimits(1, 2, 3, 4.0, 5.0)
    assert FetchLimits.of(CacheConfig()) == FetchLimits()
