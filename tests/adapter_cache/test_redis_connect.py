"""Connections to every kind of server, their bounds, and what their failures say."""

import asyncio
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path

import pytest
from redis import Redis

from adapter_cache.config import RedisLimits
from adapter_cache.redis_connect import RedisClients
from adapter_cache.valkey_server import ValkeyServer, find_binary
from contracts.errors import NotReady, StoreUnavailable
from tests.adapter_cache.servers import eventually, free_ports, running, wait_until

pytestmark = pytest.mark.redis


async def _is_used(clients: RedisClients) -> None:
    """Read, write and script, then close."""
    await clients.ping()
    async with clients.writing() as redis:
        assert await redis.eval("return redis.call('INCR', KEYS[1])", 1, "{used}") >= 1
    async with clients.reading() as redis:
        pipeline = redis.pipeline(transaction=False)
        pipeline.get("{used}")
        pipeline.get("{unused}")
        [used, unused] = await pipeline.execute()
    assert int(used) >= 1
    assert unused is None
    await clients.require_safe_eviction()
    await clients.close()


async def test_every_kind_of_server_is_used_alike(redis_url: str) -> None:
    await _is_used(RedisClients.connect(redis_url))


async def test_an_account_may_be_confined_to_the_prefix(tmp_path: Path) -> None:
    [port] = free_ports(1)
    account = ("--user", "default", "off", "--user", "ada", "on", ">pa:s@s", "~{*", "+@all")
    flags = (*account, "-@dangerous", "+eval")
    with running(str(find_binary()), tmp_path, port, *flags):
        clients = RedisClients.connect(f"redis://ada:pa%3As%40s@127.0.0.1:{port}/0")
        await _is_used(clients)
        for account_url in ("redis://ada:hunter2@", "redis://eve:hunter2@"):
            clients = RedisClients.connect(f"{account_url}127.0.0.1:{port}/0")
            with pytest.raises(StoreUnavailable, match="credentials") as caught:
                await clients.ping()
            assert "hunter2" not in f"{caught.value}{caught.value.__cause__}{clients!r}"
            await clients.close()
        clients = RedisClients.connect(f"redis://ada:pa%3As%40s@127.0.0.1:{port}/0")
        with pytest.raises(StoreUnavailable, match="does not allow"):
            async with clients.writing() as redis:
                await redis.set("outside", 1)
        await clients.close()


async def test_a_socket_file_will_do(tmp_path: Path) -> None:
    [port] = free_ports(1)
    path = tmp_path / "s"
    with running(str(find_binary()), tmp_path, port, "--unixsocket", str(path)):
        await _is_used(RedisClients.connect(f"unix://{path}?db=0"))


async def _is_written(clients: RedisClients) -> bool:
    with suppress(StoreUnavailable):
        async with clients.writing() as redis:
            return bool(await redis.set("new", "yes"))
    return False


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[str, ExitStack]]:
    """The URL of a sentinel, and its master, which ends when closed and has a replica."""
    binary = str(find_binary())
    main, replica, sentinel = free_ports(3)
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"sentinel monitor main 127.0.0.1 {main} 1\nsentinel down-after-milliseconds main 500\n"
    )
    with ExitStack() as master:
        master.enter_context(running(binary, tmp_path / "m", main))
        with (
            running(binary, tmp_path / "r", replica, "--replicaof", "127.0.0.1", str(main)),
            running(binary, tmp_path / "s", sentinel, first=(str(config), "--sentinel")),
            Redis(port=replica) as copy,
            Redis(port=sentinel) as watcher,
        ):
            wait_until(lambda: copy.info("replication")["master_link_status"] == "up")
            wait_until(lambda: watcher.sentinel_slaves("main"))
            yield f"redis+sentinel://127.0.0.1:{sentinel}/main/0", master


async def test_sentinels_are_followed_to_a_new_master(watched: tuple[str, ExitStack]) -> None:
    url, master = watched
    clients = RedisClients.connect(url)
    async with clients.writing() as redis:
        await redis.set("kept", "yes")
        await redis.wait(1, 5000)
    master.close()
    with pytest.raises(StoreUnavailable):
        await clients.ping()
    await eventually(lambda: _is_written(clients), limit_s=30.0)
    async with clients.reading() as redis:
        assert (await redis.get("kept"), await redis.get("new")) == (b"yes", b"yes")
    await _is_used(clients)


async def test_an_unknown_master_is_said_plainly(watched: tuple[str, ExitStack]) -> None:
    url, _ = watched
    await _is_used(RedisClients.connect(url))
    clients = RedisClients.connect(url.replace("/main", "/other"))
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        await clients.ping()
    await clients.close()


async def test_a_node_of_a_cluster_that_comes_back_is_used_again(tmp_path: Path) -> None:
    [port] = free_ports(1)
    binary, flags = str(find_binary()), ("--cluster-enabled", "yes", "--appendonly", "yes")
    clients = RedisClients.connect(f"redis+cluster://127.0.0.1:{port}")
    with running(binary, tmp_path, port, *flags), Redis(port=port) as node:
        node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: node.set("a", 1))
        async with clients.writing() as redis:
            await redis.set("a", 2)
    with pytest.raises(StoreUnavailable):
        await clients.ping()
    with running(binary, tmp_path, port, *flags), Redis(port=port) as node:
        wait_until(lambda: node.set("a", 3))
        async with clients.reading() as redis:
            assert await redis.get("a") == b"3"
        # The first write may find a connection of before, and fails with it.
        await eventually(lambda: _is_written(clients))
        await _is_used(clients)


async def test_a_dead_server_fails_fast() -> None:
    [port] = free_ports(1)
    for start in ("redis", "redis+cluster", "redis+sentinel"):
        url = f"{start}://user:hunter2@127.0.0.1:{port}"
        clients = RedisClients.connect(url + ("/main/0" if "sentinel" in start else "/0"))
        started_s = time.monotonic()
        for call in (clients.reading, clients.writing):
            with pytest.raises(StoreUnavailable) as caught:
                async with call() as redis:
                    await redis.get("a")
            assert "hunter2" not in f"{caught.value}{caught.value.__cause__}{clients!r}"
        assert time.monotonic() - started_s < 5.0
        await clients.close()


async def test_a_silent_server_fails_within_its_timeout() -> None:
    # Accepted by the kernel's backlog, answered by nobody.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limits = RedisLimits(connect_timeout_s=0.1, reply_timeout_s=0.1, max_retries=1)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        clients = RedisClients.connect(url, limits)
        started_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match="in time"):
            await clients.ping()
        assert time.monotonic() - started_s < 2.0
        await clients.close()


async def test_callers_beyond_the_bound_wait_and_then_fail(redis_url: str) -> None:
    limits = RedisLimits(max_connections=2, reply_timeout_s=0.5)
    clients = RedisClients.connect(redis_url, limits)
    await asyncio.gather(*(clients.ping() for _ in range(100)))
    async with clients.reading(), clients.reading():
        with pytest.raises(StoreUnavailable, match="no connection free"):
            await clients.ping()
        async with clients.writing() as redis:
            await redis.set("free", 1)
    await clients.ping()
    await clients.close()


@pytest.mark.parametrize(
    ("policy", "max_bytes", "is_safe"),
    [("allkeys-lru", 10**8, False), ("allkeys-lru", 0, True), ("volatile-ttl", 10**8, True)],
)
async def test_a_server_that_would_evict_the_registry_is_refused(
    tmp_path: Path, policy: str, max_bytes: int, is_safe: bool
) -> None:
    [port] = free_ports(1)
    flags = ("--maxmemory", str(max_bytes), "--maxmemory-policy", policy)
    with running(str(find_binary()), tmp_path, port, *flags):
        clients = RedisClients.connect(f"redis://127.0.0.1:{port}/0")
        with nullcontext() if is_safe else pytest.raises(NotReady, match=policy):
            await clients.require_safe_eviction()
        async with clients.reading() as redis:
            assert (await redis.info("memory"))["maxmemory_policy"] == policy
        await clients.close()


async def test_one_bad_node_of_a_cluster_is_enough(cluster_url: str) -> None:
    clients = RedisClients.connect(cluster_url)
    await clients.require_safe_eviction()
    with Redis(port=int(cluster_url.rpartition(":")[2])) as node:
        node.config_set("maxmemory", 10**9, "maxmemory-policy", "allkeys-lfu")
        try:
            with pytest.raises(NotReady, match="allkeys-lfu"):
                await clients.require_safe_eviction()
        finally:
            node.config_set("maxmemory", 0, "maxmemory-policy", "noeviction")
    await clients.close()


async def test_a_server_that_hides_its_policy_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    [port] = free_ports(1)
    flags = ("--user", "default", "on", "nopass", "~*", "+@all", "-info")
    with running(str(find_binary()), tmp_path, port, *flags):
        clients = RedisClients.connect(f"redis://127.0.0.1:{port}/0")
        with caplog.at_level(logging.WARNING):
            await clients.require_safe_eviction()
        assert "INFO is forbidden" in caplog.text
        await clients.close()


async def test_a_restart_is_survived_by_reads_and_idle_writes(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path) as server:
        clients, port = RedisClients.connect(server.url), server.port
        async with clients.writing() as redis:
            await redis.set("a", 1)
    for call in (clients.reading, clients.writing):
        with pytest.raises(StoreUnavailable):
            async with call() as redis:
                await redis.get("a")
    with ValkeyServer.start(tmp_path, port):
        async with clients.writing() as redis:
            await redis.set("a", 2)
    # Nobody called meanwhile: the first to be given a connection of before must not fail on it.
    await asyncio.sleep(0.05)
    with ValkeyServer.start(tmp_path, port):
        for call in (clients.writing, clients.reading):
            async with call() as redis:
                assert await redis.get("a") == b"2"
    await clients.close()


def test_a_malformed_url_is_refused_without_quoting_it() -> None:
    with pytest.raises(ValueError, match="redis_url") as caught:
        RedisClients.connect("redis://:hunter2@host:hunter2/0")
    assert "hunter2" not in str(caught.value)
