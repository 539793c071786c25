"""Blobs in pieces, from a thread: the same bytes as from the event loop, and the same faults."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapter_cache.arrival import Arrival
from adapter_cache.blobs import StreamedTier
from adapter_cache.config import RedisLimits
from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_streamed_blobs import RedisStreamedBlobs, redis_blob_tier
from adapter_cache.valkey_server import ValkeyServer
from contracts.adapters import Digest
from contracts.errors import StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob

pytestmark = pytest.mark.redis
TTL_S = 100.0


@asynccontextmanager
async def tier_of(url: str, **limits: float) -> AsyncIterator[RedisStreamedBlobs]:
    clients = RedisClients.connect(url, RedisLimits(**limits))  # type: ignore[arg-type]
    tier = redis_blob_tier(clients, "streamed", TTL_S)
    assert isinstance(tier, RedisStreamedBlobs)
    try:
        yield tier
    finally:
        await clients.close()


async def read(tier: StreamedTier, digest: Digest, size_bytes: int) -> bytes | None:
    arrival = Arrival()
    has_bytes = await asyncio.to_thread(tier.read, digest, size_bytes, arrival)
    return arrival.joined() if has_bytes else None


@pytest.mark.parametrize("size", [1, 100, (1 << 17) - 1, 1 << 17, (1 << 17) + 1, 1_000_000])
@pytest.mark.parametrize("announced", ["less", "right", "more"])
async def test_a_thread_reads_what_the_loop_reads(
    valkey: ValkeyServer, size: int, announced: str
) -> None:
    blob = make_blob(1, size)
    hint = {"less": 0, "right": size, "more": 3 * size}[announced]
    async with tier_of(valkey.url) as tier:
        await tier.put(digest_of(blob), blob)
        assert await tier.get(digest_of(blob)) == blob
        assert await read(tier, digest_of(blob), hint) == blob


async def test_what_is_not_there_is_none(valkey: ValkeyServer) -> None:
    async with tier_of(valkey.url) as tier:
        assert await read(tier, digest_of(b"nobody put this"), 600_000) is None


async def test_a_read_late_in_its_life_keeps_a_blob(
    redis_clients: RedisClients, valkey: ValkeyServer
) -> None:
    blob = make_blob(3, 100)
    async with tier_of(valkey.url) as tier:
        await tier.put(digest_of(blob), blob)
        key = f"streamed:blob:{digest_of(blob)}"
        for left_s, least_s in ((60, 0), (40, 99)):
            await redis_clients.writes.expire(key, left_s)
            assert await read(tier, digest_of(blob), 100) == blob
            assert least_s < await redis_clients.reads.ttl(key) <= max(left_s, 100 * (least_s > 0))


async def test_a_server_that_restarts_answers_the_next_read(tmp_path: Path) -> None:
    blob = make_blob(4, 1000)
    with ValkeyServer.start(tmp_path / "1") as server:
        async with tier_of(server.url) as tier:
            await tier.put(digest_of(blob), blob)
            assert await read(tier, digest_of(blob), 1000) == blob
            server.stop()
            with pytest.raises(StoreUnavailable):
                await read(tier, digest_of(blob), 1000)
            with ValkeyServer.start(tmp_path / "2", server.port) as again:
                assert again.url == server.url
                await tier.put(digest_of(blob), blob)
                assert await read(tier, digest_of(blob), 1000) == blob


async def test_a_reply_that_is_an_error_leaves_no_reply_behind(
    redis_clients: RedisClients, valkey: ValkeyServer
) -> None:
    blob = make_blob(5, 600_000)
    async with tier_of(valkey.url, max_connections=1) as tier:
        await tier.put(digest_of(blob), blob)
        await redis_clients.writes.lpush(f"streamed:blob:{digest_of(b'a list')}", "x")
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="refused a command"):
                await read(tier, digest_of(b"a list"), 600_000)
            assert await read(tier, digest_of(blob), 600_000) == blob


async def test_a_server_that_hangs_is_left_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        async with tier_of(f"redis://127.0.0.1:{port}", reply_timeout_s=0.05) as tier:
            with pytest.raises(StoreUnavailable, match="in time"):
                await read(tier, digest_of(b""), 10)


@pytest.mark.parametrize("url", ["redis+cluster://h:1", "redis+sentinel://h:1/main"])
async def test_where_a_server_must_be_found_the_loop_reads(url: str) -> None:
    clients = RedisClients.connect(url)
    tier = redis_blob_tier(clients, "x", TTL_S)
    assert type(tier) is RedisBlobs
    assert not isinstance(tier, StreamedTier)
    await clients.close()


async def test_tls_and_sockets_keep_their_kind_of_connection() -> None:
    for url, kind in (("rediss://h", "SSLConnection"), ("unix:///s", "UnixDomainSocketConnection")):
        clients = RedisClients.connect(url)
        assert clients.blocking is not None
        assert clients.blocking.connection_class.__name__ == kind
        assert clients.blocking.connection_class.__module__ == "redis.connection"
        await clients.close()
