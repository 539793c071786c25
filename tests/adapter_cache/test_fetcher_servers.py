"""The fetcher over a real Valkey that is killed, stopped or damaged, over files, on a full disk."""

import asyncio
import os
import resource
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.config import RedisLimits
from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.node_cache import NodeCache
from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.valkey_server import ValkeyServer
from contracts.errors import Overloaded, StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob, make_key
from tests.adapter_cache.tiers import FakeClock, FakeTier, count, files_in, others_done

BLOBS = [make_blob(seed, 50_000) for seed in range(12)]


class Parts:
    """A fetcher over a Valkey of its own and a folder of objects that has BLOBS."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.server = ValkeyServer.start(directory / "valkey")
        limits = RedisLimits(connect_timeout_s=1.0, reply_timeout_s=0.3, max_retries=0)
        self.clients = RedisClients.connect(self.server.url, limits)
        self.redis = RedisBlobs(self.clients)
        self.objects = FsspecObjects(f"file://{directory}/objects")
        self.cache = NodeCache(directory / "node", 10_000_000)
        self.clock, self.metrics = FakeClock(), CacheMetrics()
        self.fetcher = AdapterFetcher(
            self.cache,
            [self.redis, self.objects],
            limits=FetchLimits(max_parallel=4),
            metrics=self.metrics,
            clock=self.clock,
        )

    async def read(self, blob: bytes) -> tuple[bytes, dict[str, float]]:
        """What a request gets for a file that is not on the node, and which tiers answered."""
        self.cache.drop(digest_of(blob))
        before = self._counts()
        async with self.fetcher.hold(make_key(blob)) as path:
            found = path.read_bytes()
        await others_done()
        after = self._counts()
        news = {name: after[name] - before[name] for name in after}
        return found, {name: number for name, number in news.items() if number}

    async def close(self) -> None:
        await self.fetcher.close()
        await self.clients.close()
        await self.objects.close()
        self.server.stop()

    def _counts(self) -> dict[str, float]:
        return {
            f"{tier} {result}": count(self.metrics, "flora_cache_requests_total", tier, result)
            for tier in ("redis", "store")
            for result in ("hit", "miss", "corrupt", "error")
        }


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    parts = Parts(tmp_path)
    for blob in BLOBS:
        await parts.objects.put(digest_of(blob), blob)
    yield parts
    await parts.close()


@pytest.mark.redis
async def test_requests_outlive_a_killed_valkey_and_it_is_used_again(parts: Parts) -> None:
    assert await parts.read(BLOBS[0]) == (BLOBS[0], {"redis miss": 1, "store hit": 1})
    assert await parts.read(BLOBS[0]) == (BLOBS[0], {"redis hit": 1})
    parts.server._process.kill()
    parts.server._process.wait()
    assert await parts.read(BLOBS[0]) == (BLOBS[0], {"redis error": 1, "store hit": 1})
    # It rests: others do not pay for the outage.
    assert await parts.read(BLOBS[1]) == (BLOBS[1], {"store hit": 1})
    parts.server = ValkeyServer.start(parts.directory / "valkey", parts.server.port)
    parts.clock.now_s += 2.0
    assert await parts.read(BLOBS[1]) == (BLOBS[1], {"redis miss": 1, "store hit": 1})
    assert await parts.read(BLOBS[1]) == (BLOBS[1], {"redis hit": 1})


@pytest.mark.redis
async def test_a_valkey_killed_under_load_costs_no_request(parts: Parts) -> None:
    def seen(result: str) -> float:
        return count(parts.metrics, "flora_cache_requests_total", "redis", result)

    async def another(result: str) -> None:
        before = seen(result)
        while seen(result) == before:  # noqa: ASYNC110  (a counter tells nobody)
            await asyncio.sleep(0.01)

    async def kill_and_restart() -> None:
        # However slow the machine is, each Valkey is used before it dies, and missed afterwards.
        for _ in range(2):
            await another("hit")
            parts.server._process.kill()
            parts.server._process.wait()
            await another("error")
            parts.server = ValkeyServer.start(parts.directory / "valkey", parts.server.port)

    async def load(blob: bytes) -> None:
        while not killing.done():
            async with parts.fetcher.hold(make_key(blob)) as path:
                assert path.read_bytes() == blob
            parts.cache.drop(digest_of(blob))
            parts.clock.now_s += 0.1

    async with asyncio.timeout(60):
        killing = asyncio.create_task(kill_and_restart())
        await asyncio.gather(killing, *map(load, BLOBS))
    await others_done()
    assert seen("hit") >= 2
    assert seen("error") >= 2
    parts.cache.check_integrity(read_blobs=True)
    assert count(parts.metrics, "flora_cache_pending") == 0


@pytest.mark.redis
async def test_a_stopped_valkey_is_passed_over(parts: Parts) -> None:
    await parts.read(BLOBS[0])
    os.kill(parts.server._process.pid, signal.SIGSTOP)
    try:
        assert await parts.read(BLOBS[0]) == (BLOBS[0], {"redis error": 1, "store hit": 1})
    finally:
        os.kill(parts.server._process.pid, signal.SIGCONT)
    parts.clock.now_s += 2.0
    assert await parts.read(BLOBS[0]) == (BLOBS[0], {"redis hit": 1})


@pytest.mark.redis
@pytest.mark.parametrize("wrong", [b"", BLOBS[0][:-1], BLOBS[1]], ids=["empty", "short", "other"])
async def test_wrong_bytes_in_redis_are_replaced_from_the_store(parts: Parts, wrong: bytes) -> None:
    await parts.redis.put(digest_of(BLOBS[0]), wrong)
    assert await parts.read(BLOBS[0]) == (BLOBS[0], {"redis corrupt": 1, "store hit": 1})
    assert await parts.redis.get(digest_of(BLOBS[0])) == BLOBS[0]
    assert await parts.read(BLOBS[0]) == (BLOBS[0], {"redis hit": 1})


@pytest.mark.redis
async def test_two_hundred_waiters_make_one_read(parts: Parts) -> None:
    await parts.redis.put(digest_of(BLOBS[0]), BLOBS[0])
    waiters = (parts.fetcher.ensure(make_key(BLOBS[0])) for _ in range(200))
    paths = await asyncio.gather(*waiters)
    assert {path.read_bytes() for path in paths} == {BLOBS[0]}
    assert count(parts.metrics, "flora_cache_requests_total", "redis", "hit") == 1
    assert count(parts.metrics, "flora_cache_read_bytes_total", "redis") == len(BLOBS[0])


async def test_no_tier_that_answers_is_an_outage(tmp_path: Path) -> None:
    clients = RedisClients.connect("unix:///nonexistent/valkey.sock", RedisLimits(max_retries=0))
    limits = FetchLimits(deadline_s=0.3)
    fetcher = AdapterFetcher(NodeCache(tmp_path, 1_000), [RedisBlobs(clients)], limits=limits)
    with pytest.raises(StoreUnavailable):
        await fetcher.ensure(make_key(make_blob(1)))
    await clients.close()


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[None]:
    """A tmpfs of that size; where this process may not mount one, a limit on its files' size."""
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(directory)]
    if subprocess.run(mount, stderr=subprocess.DEVNULL, check=False).returncode == 0:
        try:
            yield
        finally:
            subprocess.run(["umount", str(directory)], check=True)
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_refuses_what_does_not_fit_and_takes_what_does(tmp_path: Path) -> None:
    large, small = make_blob(1, 500_000), make_blob(2, 100_000)
    with small_disk(tmp_path / "node", 256 * 1024):
        cache = NodeCache(tmp_path / "node", 10_000_000)
        store = FakeTier("store", [large, small])
        fetcher = AdapterFetcher(cache, [FakeTier("redis"), store], limits=FetchLimits())
        for _ in range(2):
            with pytest.raises(Overloaded):
                await fetcher.ensure(make_key(large))
        assert files_in(tmp_path / "node") == set()
        assert (await fetcher.ensure(make_key(small))).read_bytes() == small
        await fetcher.close()
        cache.check_integrity(read_blobs=True)
