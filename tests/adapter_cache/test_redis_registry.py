"""What only the registry in Redis has: layout, size, round trips, restarts."""

import asyncio
from pathlib import Path

import pytest

from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.valkey_server import ValkeyServer
from contracts.adapters import DEFAULT_TENANT, AdapterRef, TenantId
from contracts.errors import AdapterCorrupt, StoreUnavailable
from tests.adapter_cache.manifests import advance, make_manifest

pytestmark = pytest.mark.redis
ADA = AdapterRef(DEFAULT_TENANT, "ada")


async def _keys(clients: RedisClients, prefix: str) -> set[str]:
    async with clients.reading() as redis:
        return {key.decode() async for key in redis.scan_iter(f"{prefix}:*")}


async def test_the_last_removal_leaves_no_key_behind(clients: RedisClients, prefix: str) -> None:
    registry = RedisRegistry(clients, prefix)
    await advance(registry, *(make_manifest(version) for version in (1, 2)))
    await advance(registry, make_manifest(1, "bob", TenantId("a}b")))
    await registry.pin(DEFAULT_TENANT, "ada", 1)
    kinds = ("adapter:ada", "older:ada", "pins:ada", "names")
    theirs = {f"{prefix}:{{a%7Db}}:{kind}" for kind in ("adapter:bob", "names")}
    ours = {f"{prefix}:{{default}}:{kind}" for kind in kinds}
    assert await _keys(clients, prefix) == ours | theirs
    await registry.remove(DEFAULT_TENANT, "ada", 2)
    await registry.remove(TenantId("a}b"), "bob", 1)
    assert await _keys(clients, prefix) == set()


async def test_no_key_of_the_registry_expires(clients: RedisClients, prefix: str) -> None:
    registry = RedisRegistry(clients, prefix)
    await advance(registry, *(make_manifest(version) for version in (1, 2)))
    await registry.pin(DEFAULT_TENANT, "ada", 1)
    keys = await _keys(clients, prefix)
    assert {await clients.reads.ttl(key) for key in keys} == {-1}


async def test_resolve_is_one_round_trip(valkey_url: str, prefix: str) -> None:
    clients = RedisClients.connect(valkey_url)
    registry = RedisRegistry(clients, prefix)
    tenants = [TenantId(f"t{number}") for number in range(8)]
    await advance(registry, *(make_manifest(1, tenant=tenant) for tenant in tenants))
    refs = [AdapterRef(tenant, "ada", version) for tenant in tenants for version in (None, 1)]
    await registry.resolve(refs)
    before = await clients.reads.info("stats")
    assert None not in await registry.resolve(refs * 10)
    after = await clients.reads.info("stats")
    await clients.close()
    # Each ref once, however often it is asked for, and one more read for each with a version; all
    # of them, and the question itself, in one read from the socket each.
    assert after["total_commands_processed"] - before["total_commands_processed"] == 8 + 8 + 1
    assert after["total_reads_processed"] - before["total_reads_processed"] == 2


@pytest.mark.parametrize("num_tenants", [1, 4_000])
async def test_an_adapter_costs_at_most_400_bytes(tmp_path: Path, num_tenants: int) -> None:
    with ValkeyServer.start(tmp_path) as server:
        clients = RedisClients.connect(server.url)
        registry = RedisRegistry(clients)
        await advance(registry, make_manifest(1))
        before = (await clients.reads.info("memory"))["used_memory_dataset"]
        manifests = [
            make_manifest(
                1, f"user-{number:08d}-assistant", TenantId(f"tenant-{number % num_tenants:08d}")
            )
            for number in range(4_000)
        ]
        for start in range(0, len(manifests), 50):
            await asyncio.gather(*map(registry.advance, manifests[start : start + 50]))
        after = (await clients.reads.info("memory"))["used_memory_dataset"]
        assert (after - before) / len(manifests) <= 400
        await clients.close()


async def test_what_was_recorded_survives_a_restart(tmp_path: Path) -> None:
    manifests = [make_manifest(version) for version in (1, 2)]
    with ValkeyServer.start(tmp_path) as server:
        registry = RedisRegistry(RedisClients.connect(server.url))
        await advance(registry, *manifests)
        await registry.close()
    with ValkeyServer.start(tmp_path) as server:
        registry = RedisRegistry(RedisClients.connect(server.url))
        assert await registry.versions(DEFAULT_TENANT, "ada") == manifests
        await registry.close()


async def test_one_registry_outlives_a_restart_of_its_server(tmp_path: Path) -> None:
    first, second = make_manifest(1), make_manifest(2)
    with ValkeyServer.start(tmp_path) as server:
        registry, port = RedisRegistry(RedisClients.connect(server.url)), server.port
        await registry.advance(first)
    with pytest.raises(StoreUnavailable):
        await registry.resolve([ADA])
    with pytest.raises(StoreUnavailable):
        await registry.advance(second)
    with ValkeyServer.start(tmp_path, port):
        assert await registry.resolve([ADA]) == [first.key]
        assert await registry.advance(second) == first.key
        assert await registry.resolve([ADA]) == [second.key]
    await registry.close()


async def test_a_damaged_record_is_named_and_healed_by_the_next(
    clients: RedisClients, prefix: str
) -> None:
    registry = RedisRegistry(clients, prefix)
    await advance(registry, make_manifest(1))
    async with clients.writing() as redis:
        await redis.set(f"{prefix}:{{default}}:adapter:ada", "damaged")
    with pytest.raises(AdapterCorrupt, match="'ada'"):
        await registry.resolve([ADA])
    assert await registry.advance(make_manifest(1)) is None
    assert await registry.resolve([ADA]) == [make_manifest(1).key]
