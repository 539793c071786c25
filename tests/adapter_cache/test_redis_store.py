"""What only the real store has: layout, size, faults, restarts."""

import asyncio
import socket
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis

from adapter_cache.config import RedisLimits
from adapter_cache.redis_store import RedisAdapterStore
from adapter_cache.valkey_server import ValkeyServer
from contracts.adapters import DEFAULT_TENANT, AdapterRef, TenantId
from contracts.errors import StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob, publish

pytestmark = pytest.mark.redis
ADA = AdapterRef(DEFAULT_TENANT, "ada")


async def _keys(client: Redis, prefix: str) -> set[str]:
    escaped = "".join(f"[{char}]" if char in "[]*?" else char for char in prefix)
    return {key.decode().removeprefix(prefix) async for key in client.scan_iter(f"{escaped}:*")}


async def test_the_last_delete_leaves_no_key_behind(valkey: ValkeyServer) -> None:
    store, client = RedisAdapterStore(valkey.url, "left"), Redis.from_url(valkey.url)
    for name, seed in (("a", 1), ("a", 2), ("a", 1), ("b", 2), ("b", 2)):
        await publish(store, name, make_blob(seed))
    digests = [digest_of(make_blob(seed)) for seed in (1, 2)]
    assert await _keys(client, "left") == {
        ":{default}:adapters",
        ":{default}:names",
        *(f":{kind}:{{{digest}}}" for kind in ("blob", "refs") for digest in digests),
    }
    assert [int(await client.get(f"left:refs:{{{digest}}}") or 0) for digest in digests] == [2, 2]
    for name in ("a", "b"):
        await store.delete(DEFAULT_TENANT, name)
    assert await _keys(client, "left") == set()
    await client.aclose()
    await store.close()


async def test_resolve_is_one_command_a_tenant(
    redis_store: RedisAdapterStore, valkey: ValkeyServer
) -> None:
    tenants = [DEFAULT_TENANT, TenantId("other")]
    for tenant in tenants:
        await publish(redis_store, "ada", make_blob(1), tenant=tenant)
    client = Redis.from_url(valkey.url)
    refs = [AdapterRef(tenant, "ada", version) for tenant in tenants for version in (None, 1)] * 50
    await client.config_resetstat()
    assert None not in await redis_store.resolve(refs)
    stats = await client.info("commandstats")
    await client.aclose()
    assert stats["cmdstat_hmget"]["calls"] == len(tenants)
    assert not [name for name in stats if name.startswith(("cmdstat_hget", "cmdstat_eval"))]


async def test_an_adapter_costs_at_most_400_bytes(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path) as server:
        store, client = RedisAdapterStore(server.url), Redis.from_url(server.url)
        await publish(store, "user-first", make_blob(1))
        before = (await client.info("memory"))["used_memory_dataset"]
        names = [f"user-{number:08d}-assistant" for number in range(4_000)]
        for start in range(0, len(names), 50):
            chunk = names[start : start + 50]
            await asyncio.gather(*(publish(store, name, make_blob(1)) for name in chunk))
        after = (await client.info("memory"))["used_memory_dataset"]
        assert (after - before) / len(names) <= 400
        await client.aclose()
        await store.close()


async def test_published_adapters_survive_a_restart(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path) as server:
        store = RedisAdapterStore(server.url)
        manifests = [await publish(store, "ada", make_blob(seed, 500_000)) for seed in (1, 2)]
        await store.close()
    with ValkeyServer.start(tmp_path) as server:
        store = RedisAdapterStore(server.url)
        assert await store.versions(DEFAULT_TENANT, "ada") == manifests
        assert await store.fetch(manifests[0].key.digest) == make_blob(1, 500_000)
        await store.close()


async def test_one_store_outlives_a_restart_of_its_server(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path) as server:
        store = RedisAdapterStore(server.url)
        first = await publish(store, "ada", make_blob(1))
        port = server.port
    with pytest.raises(StoreUnavailable):
        await store.resolve([ADA])
    with pytest.raises(StoreUnavailable):
        await publish(store, "ada", make_blob(2))
    with ValkeyServer.start(tmp_path, port):
        assert await store.resolve([ADA]) == [first.key]
        second = await publish(store, "ada", make_blob(2))
        assert (second.key.version, await store.resolve([ADA])) == (2, [second.key])
    # Nobody called meanwhile: the first to be given a connection of before must not fail on it.
    await asyncio.sleep(0.05)
    with ValkeyServer.start(tmp_path, port):
        assert (await publish(store, "ada", make_blob(3))).key.version == 3
        assert (await store.resolve([ADA])) != [second.key]
    await store.close()


async def test_a_publish_that_stops_before_the_pointer_leaves_the_old_version(
    redis_store: RedisAdapterStore,
) -> None:
    first = await publish(redis_store, "ada", make_blob(1))
    # All that a publisher has done when it dies between the blob and the pointer.
    await redis_store._keep_blob(digest_of(make_blob(2)), make_blob(2))
    assert await redis_store.versions(DEFAULT_TENANT, "ada") == [first]
    assert (await publish(redis_store, "ada", make_blob(2))).key.version == 2


async def test_a_dead_store_fails_fast() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    store = RedisAdapterStore(f"redis://user:hunter2@127.0.0.1:{port}/0")
    started_s = time.monotonic()
    for call in (store.ping(), store.resolve([ADA]), publish(store, "ada", make_blob(1))):
        with pytest.raises(StoreUnavailable) as caught:
            await call
        assert "hunter2" not in f"{caught.value}{caught.value.__cause__}{store!r}"
    assert time.monotonic() - started_s < 2.0
    await store.close()


async def test_a_silent_store_fails_within_its_timeout() -> None:
    # Accepted by the kernel's backlog, answered by nobody.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        limits = RedisLimits(connect_timeout_s=0.1, reply_timeout_s=0.1, max_retries=1)
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        store = RedisAdapterStore(url, limits=limits)
        started_s = time.monotonic()
        with pytest.raises(StoreUnavailable, match="in time"):
            await store.resolve([ADA])
        assert time.monotonic() - started_s < 2.0
        await store.close()


@pytest.mark.parametrize("url", ["http://:hunter2@host", "redis://:hunter2@host:hunter2/0"])
def test_a_malformed_url_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match="redis_url") as caught:
        RedisAdapterStore(url)
    assert "hunter2" not in str(caught.value)


async def test_many_callers_share_few_connections(valkey: ValkeyServer) -> None:
    store = RedisAdapterStore(valkey.url, "few", RedisLimits(max_connections=2))
    manifest = await publish(store, "ada", make_blob(1))
    found = await asyncio.gather(*(store.resolve([ADA]) for _ in range(100)))
    assert found == [[manifest.key]] * 100
    await store.close()
