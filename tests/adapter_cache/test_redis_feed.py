"""What a reader of the feed sees, and that it never misses anything without saying so."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_feed import RedisFeed, decode_change, encode_change
from adapter_cache.valkey_server import ValkeyServer
from contracts.adapters import DEFAULT_TENANT, AdapterChange, AdapterKey, Digest, TenantId
from tests.adapter_cache.manifests import make_manifest
from tests.adapter_cache.servers import eventually

pytestmark = pytest.mark.redis
Seen = asyncio.Queue[AdapterChange | None]
WAIT_S = 10.0


def change(version: int) -> AdapterChange:
    return AdapterChange(DEFAULT_TENANT, "ada", Digest("ab" * 32), make_manifest(version).key)


GONE = AdapterChange(TenantId("t:1"), "bob", Digest("cd" * 32), None)


async def length(clients: RedisClients, prefix: str) -> int:
    return await clients.reads.xlen(f"{prefix}:changes")


@asynccontextmanager
async def following(feed: RedisFeed, clients: RedisClients, prefix: str) -> AsyncIterator[Seen]:
    """What a listener sees that has joined when the block begins."""
    seen: Seen = asyncio.Queue()

    async def listen() -> None:
        async for one in feed.changes():
            seen.put_nowait(one)

    before = await length(clients, prefix)
    task = asyncio.create_task(listen())

    async def has_joined() -> bool:
        return await length(clients, prefix) > before

    await eventually(has_joined)
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def take(seen: Seen) -> AdapterChange | None:
    async with asyncio.timeout(WAIT_S):
        return await seen.get()


async def test_listeners_see_what_is_announced_from_now_on(
    clients: RedisClients, prefix: str
) -> None:
    feed = RedisFeed(clients, prefix)
    await feed.announce(change(1))
    async with following(feed, clients, prefix) as first, following(feed, clients, prefix) as other:
        for one in (change(2), GONE, change(3)):
            await feed.announce(one)
        for seen in (first, other):
            assert [await take(seen) for _ in range(3)] == [change(2), GONE, change(3)]
        assert first.empty()


async def test_a_quiet_time_is_no_gap(clients: RedisClients, prefix: str) -> None:
    feed = RedisFeed(clients, prefix, wait_s=0.01)
    async with following(feed, clients, prefix) as seen:
        await asyncio.sleep(0.1)
        assert seen.empty()
        await feed.announce(change(1))
        assert await take(seen) == change(1)


async def test_an_emptied_stream_is_a_gap(clients: RedisClients, prefix: str) -> None:
    feed = RedisFeed(clients, prefix, wait_s=0.05)
    async with following(feed, clients, prefix) as seen:
        await feed.announce(change(1))
        assert await take(seen) == change(1)
        await clients.writes.delete(f"{prefix}:changes")
        assert await take(seen) is None
        await feed.announce(change(2))
        assert await take(seen) == change(2)


async def test_a_stream_that_is_begun_again_is_a_gap(clients: RedisClients, prefix: str) -> None:
    feed = RedisFeed(clients, prefix, wait_s=5.0)
    async with following(feed, clients, prefix) as seen:
        await clients.writes.delete(f"{prefix}:changes")
        await feed.announce(change(1))
        assert await take(seen) is None


async def test_a_stream_begun_again_with_the_same_id_is_a_gap(
    clients: RedisClients, prefix: str
) -> None:
    """Two entries of one millisecond, before and after a server was emptied."""
    feed = RedisFeed(clients, prefix, wait_s=0.05)
    async with following(feed, clients, prefix) as seen:
        await feed.announce(change(1))
        assert await take(seen) == change(1)
        newest: Any = await clients.writes.xrevrange(f"{prefix}:changes", count=1)
        async with clients.writes.pipeline(transaction=True) as pipeline:
            pipeline.delete(f"{prefix}:changes")
            pipeline.xadd(f"{prefix}:changes", encode_change(change(2)), id=newest[0][0])
            await pipeline.execute()
        assert await take(seen) is None


async def test_a_slow_listener_is_told_that_the_stream_was_cut(
    clients: RedisClients, prefix: str
) -> None:
    feed = RedisFeed(clients, prefix, wait_s=0.05)
    changes = feed.changes()
    listener = asyncio.ensure_future(anext(changes))
    await eventually(lambda: length(clients, prefix))
    await feed.announce(change(1))
    assert await listener == change(1)
    # It does not ask for more while these come and go.
    for version in range(2, 8):
        await feed.announce(change(version))
    await clients.writes.xtrim(f"{prefix}:changes", maxlen=2, approximate=False)
    assert await anext(changes) is None
    await changes.aclose()


async def test_the_stream_is_capped(clients: RedisClients, prefix: str) -> None:
    feed = RedisFeed(clients, prefix, max_entries=10)
    for version in range(1, 400):
        await feed.announce(change(version))
    # The server cuts whole nodes of the stream, of a hundred entries.
    assert await length(clients, prefix) <= 210


async def test_an_entry_of_another_program_is_a_gap(clients: RedisClients, prefix: str) -> None:
    feed = RedisFeed(clients, prefix)
    async with following(feed, clients, prefix) as seen:
        for fields in ({"name": "ada"}, {**encode_change(change(1)), "version": "x"}):
            async with asyncio.timeout(WAIT_S):
                strange: dict[Any, Any] = fields
                await clients.writes.xadd(f"{prefix}:changes", strange)
                assert await seen.get() is None


async def test_a_listener_that_leaves_gives_its_connection_back(
    valkey_url: str, prefix: str
) -> None:
    clients = RedisClients.connect(valkey_url)
    await clients.writes.ping()
    before = len(await clients.reads.client_list())
    async with following(RedisFeed(clients, prefix), clients, prefix):
        assert len(await clients.reads.client_list()) == before + 1

    async def is_alone() -> bool:
        return len(await clients.reads.client_list()) == before

    await eventually(is_alone)
    await clients.close()


async def test_a_server_that_was_killed_or_emptied_is_a_gap(tmp_path: Path) -> None:
    server = ValkeyServer.start(tmp_path)
    clients = RedisClients.connect(server.url)
    feed = RedisFeed(clients, "p")
    async with following(feed, clients, "p") as seen:
        await feed.announce(change(1))
        assert await take(seen) == change(1)
        server._process.kill()
        server.stop()
        await feed.announce(change(2))
        with ValkeyServer.start(tmp_path, server.port):
            assert await take(seen) is None
            await feed.announce(change(3))
            assert await take(seen) == change(3)
            await clients.writes.flushall()
            await feed.announce(change(4))
            assert await take(seen) is None
    await clients.close()


async def test_an_announcement_that_fails_is_logged_once_an_outage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer.start(tmp_path) as server:
        port = server.port
    clients = RedisClients.connect(f"redis://:hunter2@127.0.0.1:{port}/0")
    feed = RedisFeed(clients, "p")
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            await feed.announce(change(1))
    [record] = caplog.records
    assert "not announced" in record.message
    assert "hunter2" not in f"{caplog.text}{feed!r}"
    await clients.close()


async def test_a_listener_without_a_server_waits_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ValkeyServer.start(tmp_path) as server:
        port = server.port
    clients = RedisClients.connect(server.url)
    feed = RedisFeed(clients, "p")
    changes = feed.changes()
    first = asyncio.ensure_future(anext(changes))
    await asyncio.sleep(0.5)
    assert not first.done()
    assert [record.message for record in caplog.records] == [
        "changes of adapters are not followed: the adapter store cannot be reached"
    ]
    with ValkeyServer.start(tmp_path, port):
        async with asyncio.timeout(WAIT_S):
            # What came before it could listen is unknown to it.
            assert await first is None
        await changes.aclose()
    await clients.close()


keys = st.builds(
    AdapterKey,
    tenant=st.just(TenantId("t")),
    name=st.just("ada"),
    version=st.integers(1, 2**40),
    digest=st.text("0123456789abcdef", min_size=64, max_size=64).map(Digest),
    size_bytes=st.integers(0, 2**40),
)


@given(keys, st.text(st.characters(exclude_categories=["Cs"])), st.booleans())
def test_an_entry_gives_back_its_change(key: AdapterKey, tenant: str, is_gone: bool) -> None:
    owner = TenantId(tenant)
    named = AdapterKey(owner, key.name, key.version, key.digest, key.size_bytes)
    one = AdapterChange(owner, key.name, key.digest, None if is_gone else named)
    fields = {name.encode(): value.encode() for name, value in encode_change(one).items()}
    assert decode_change(fields) == one
