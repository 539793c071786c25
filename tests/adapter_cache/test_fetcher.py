import asyncio
import threading
from pathlib import Path

import pytest

from adapter_cache.fetcher import AdapterFetcher
from adapter_cache.node_cache import NodeCache
from adapter_cache.redis_store import RedisAdapterStore
from contracts.adapters import BASE, AdapterKey
from contracts.errors import AdapterCorrupt, DeadlineExceeded, StoreUnavailable
from tests.adapter_cache.adapters import CountingStore, digest_of, make_blob, make_key, publish


def make_fetcher(
    directory: Path,
    blobs: list[bytes],
    max_parallel: int = 4,
    deadline_s: float = 5.0,
    max_bytes: int = 10_000,
) -> tuple[AdapterFetcher, CountingStore, NodeCache]:
    store = CountingStore({digest_of(blob): blob for blob in blobs})
    cache = NodeCache(directory, max_bytes)
    fetcher = AdapterFetcher(store, cache, max_parallel=max_parallel, deadline_s=deadline_s)
    return fetcher, store, cache


async def _until_fetching(store: CountingStore, num_fetches: int = 1) -> None:
    for _ in range(num_fetches):
        await store.started.acquire()


async def test_fifty_callers_share_one_flight(tmp_path: Path) -> None:
    blob = make_blob(1)
    fetcher, store, _ = make_fetcher(tmp_path, [blob])
    waiters = [asyncio.create_task(fetcher.ensure(make_key(blob))) for _ in range(50)]
    await _until_fetching(store)
    store.gate.set()
    paths = await asyncio.gather(*waiters)
    assert (store.num_fetches, set(paths)) == (1, {tmp_path / digest_of(blob)})
    assert paths[0].read_bytes() == blob
    assert await fetcher.ensure(make_key(blob, "other-name")) == paths[0]
    assert store.num_fetches == 1


async def test_different_digests_fly_in_parallel_under_the_bound(tmp_path: Path) -> None:
    blobs = [make_blob(seed) for seed in range(10)]
    fetcher, store, _ = make_fetcher(tmp_path, blobs, max_parallel=3)
    waiters = [asyncio.create_task(fetcher.ensure(make_key(blob))) for blob in blobs]
    await _until_fetching(store, 3)
    await asyncio.sleep(0.01)
    assert store.num_now == 3
    store.gate.set()
    await asyncio.gather(*waiters)
    assert (store.num_fetches, store.max_now) == (10, 3)


async def test_a_failure_is_shared_and_not_kept(tmp_path: Path) -> None:
    blob = make_blob(1)
    fetcher, store, _ = make_fetcher(tmp_path, [])
    store.gate.set()
    results = await asyncio.gather(
        *(fetcher.ensure(make_key(blob)) for _ in range(5)), return_exceptions=True
    )
    assert store.num_fetches == 1
    for result in results:
        assert isinstance(result, AdapterCorrupt)
        assert "no bytes" in str(result)
    store.served[digest_of(blob)] = blob
    assert (await fetcher.ensure(make_key(blob))).read_bytes() == blob


async def test_wrong_bytes_never_reach_the_node(tmp_path: Path) -> None:
    fetcher, store, cache = make_fetcher(tmp_path, [])
    key = make_key(make_blob(1))
    store.served[key.digest] = make_blob(2)
    store.gate.set()
    with pytest.raises(AdapterCorrupt, match=key.digest):
        await fetcher.ensure(key)
    assert cache.residents() == []


@pytest.mark.parametrize("num_cancelled", [1, 9, 10])
async def test_waiters_give_up_each_for_itself(tmp_path: Path, num_cancelled: int) -> None:
    blob = make_blob(1)
    fetcher, store, cache = make_fetcher(tmp_path, [blob])
    waiters = [asyncio.create_task(fetcher.ensure(make_key(blob))) for _ in range(10)]
    await _until_fetching(store)
    for waiter in waiters[:num_cancelled]:
        waiter.cancel()
    store.gate.set()
    results = await asyncio.gather(*waiters, return_exceptions=True)
    kinds = [type(result) for result in results[:num_cancelled]]
    assert kinds == [asyncio.CancelledError] * num_cancelled
    assert results[num_cancelled:] == [tmp_path / digest_of(blob)] * (10 - num_cancelled)
    # Even with nobody left to wait, the flight goes on, and the next caller joins it.
    assert await fetcher.ensure(make_key(blob)) == cache.get(digest_of(blob))
    assert store.num_fetches == 1


async def test_a_store_that_never_answers_ends_at_the_deadline(tmp_path: Path) -> None:
    fetcher, store, _ = make_fetcher(tmp_path, [], max_parallel=1, deadline_s=0.05)
    keys = [make_key(make_blob(seed)) for seed in range(3)]
    results = await asyncio.gather(*map(fetcher.ensure, keys), return_exceptions=True)
    assert [type(result) for result in results] == [DeadlineExceeded] * 3
    # Two of them spent their time waiting for a place.
    assert store.num_fetches == 1


async def test_a_failure_with_no_waiter_left_is_silent(tmp_path: Path) -> None:
    fetcher, store, _ = make_fetcher(tmp_path, [])
    waiter = asyncio.create_task(fetcher.ensure(make_key(make_blob(1))))
    await _until_fetching(store)
    waiter.cancel()
    store.gate.set()
    await asyncio.sleep(0.01)
    assert "0 in flight" in repr(fetcher)


async def test_close_ends_the_flights(tmp_path: Path) -> None:
    fetcher, store, _ = make_fetcher(tmp_path, [])
    waiter = asyncio.create_task(fetcher.ensure(make_key(make_blob(1))))
    await _until_fetching(store)
    await fetcher.close()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert "0 in flight" in repr(fetcher)


async def test_held_files_stay_whatever_else_arrives(tmp_path: Path) -> None:
    blobs = [make_blob(seed, 100) for seed in range(8)]
    fetcher, store, cache = make_fetcher(tmp_path, blobs, max_bytes=300)
    store.gate.set()
    async with fetcher.hold(make_key(blobs[0])) as path, fetcher.hold(make_key(blobs[0])):
        for blob in blobs[1:]:
            await fetcher.ensure(make_key(blob))
        assert path.read_bytes() == blobs[0]
        cache.check_integrity(read_blobs=True)
    for blob in blobs[1:]:
        await fetcher.ensure(make_key(blob))
    assert not path.exists()


async def test_hold_brings_back_what_was_evicted_while_it_waited(tmp_path: Path) -> None:
    blobs = [make_blob(seed, 100) for seed in range(3)]
    fetcher, store, _ = make_fetcher(tmp_path, blobs, max_bytes=100)
    store.gate.set()

    async def read(blob: bytes) -> bytes:
        async with fetcher.hold(make_key(blob)) as path:
            return path.read_bytes()

    for blob in blobs * 3:
        assert await read(blob) == blob


async def test_bytes_are_written_off_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetcher, store, cache = make_fetcher(tmp_path, [make_blob(1)])
    store.gate.set()
    threads: list[threading.Thread] = []
    put = cache.put

    def recording_put(*args: object) -> Path:
        threads.append(threading.current_thread())
        return put(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(cache, "put", recording_put)
    await fetcher.ensure(make_key(make_blob(1)))
    assert threads != [threading.current_thread()]


async def test_a_key_without_bytes_is_refused(tmp_path: Path) -> None:
    fetcher, store, _ = make_fetcher(tmp_path, [])
    for key in (BASE, AdapterKey(BASE.tenant, "x", 1, BASE.digest, 1)):
        with pytest.raises(AdapterCorrupt):
            await fetcher.ensure(key)
    assert store.num_fetches == 0


@pytest.mark.redis
async def test_from_the_real_store_to_the_node(
    tmp_path: Path, redis_store: RedisAdapterStore
) -> None:
    blob = make_blob(1, 500_000)
    key = (await publish(redis_store, "ada", blob)).key
    cache = NodeCache(tmp_path, 1_000_000)
    fetcher = AdapterFetcher(redis_store, cache, max_parallel=2, deadline_s=5.0)
    assert (await fetcher.ensure(key)).read_bytes() == blob


async def test_a_store_that_is_down_is_reported_as_such(tmp_path: Path) -> None:
    store = RedisAdapterStore("unix:///nonexistent/valkey.sock")
    cache = NodeCache(tmp_path, 1_000)
    fetcher = AdapterFetcher(store, cache, max_parallel=2, deadline_s=5.0)
    with pytest.raises(StoreUnavailable):
        await fetcher.ensure(make_key(make_blob(1)))
    await store.close()
