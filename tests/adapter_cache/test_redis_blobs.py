"""Blobs that live as long as they are asked for."""

from pathlib import Path

import pytest

from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.valkey_server import ValkeyServer
from contracts.adapters import DEFAULT_TENANT
from contracts.errors import StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob
from tests.adapter_cache.manifests import advance, make_manifest

pytestmark = pytest.mark.redis
BLOB = make_blob(1, 100_000)
DIGEST = digest_of(BLOB)


async def test_what_was_put_last_is_got(clients: RedisClients, prefix: str) -> None:
    blobs = RedisBlobs(clients, prefix)
    assert await blobs.get(DIGEST) is None
    for blob in (b"damaged", BLOB, BLOB):
        await blobs.put(DIGEST, blob)
        assert await blobs.get(DIGEST) == blob
    assert (blobs.name, repr(blobs)) == ("redis", f"<RedisBlobs '{prefix}'>")


async def test_a_read_late_in_its_life_keeps_a_blob(clients: RedisClients, prefix: str) -> None:
    blobs, key = RedisBlobs(clients, prefix, ttl_s=100.0), f"{prefix}:blob:{DIGEST}"
    await blobs.put(DIGEST, BLOB)
    assert 99_000 < await clients.reads.pttl(key) <= 100_000
    for left_s, least_s in ((60, 0), (40, 99)):
        await clients.writes.expire(key, left_s)
        assert await blobs.get(DIGEST) == BLOB
        assert least_s < await clients.reads.ttl(key) <= max(left_s, 100 * (least_s > 0))


async def test_a_blob_expires(clients: RedisClients, prefix: str) -> None:
    blobs = RedisBlobs(clients, prefix, ttl_s=0.0005)
    await blobs.put(DIGEST, BLOB)
    key = f"{prefix}:blob:{DIGEST}"
    while await clients.reads.exists(key):
        pass
    assert await blobs.get(DIGEST) is None


async def test_a_server_that_refuses_writes_still_gives_blobs(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path) as server:
        clients = RedisClients.connect(server.url)
        blobs = RedisBlobs(clients, ttl_s=100.0)
        await blobs.put(DIGEST, BLOB)
        await clients.writes.expire(f"flora:blob:{DIGEST}", 10)
        await clients.writes.config_set("min-replicas-to-write", 1)
        with pytest.raises(StoreUnavailable):
            await blobs.put(DIGEST, BLOB)
        assert await blobs.get(DIGEST) == BLOB
        await clients.close()


async def test_short_of_memory_blobs_go_and_the_registry_stays(tmp_path: Path) -> None:
    with ValkeyServer.start(tmp_path, max_bytes=16_000_000) as server:
        clients = RedisClients.connect(server.url)
        registry, blobs = RedisRegistry(clients), RedisBlobs(clients)
        manifests = [make_manifest(1, f"a{number:03d}") for number in range(100)]
        await advance(registry, *manifests)
        digests = [digest_of(make_blob(seed)) for seed in range(400)]
        for digest in digests:
            await blobs.put(digest, BLOB)
        assert await registry.page(DEFAULT_TENANT, "", 100) == (manifests, "")
        kept = [digest for digest in digests if await blobs.get(digest) is not None]
        assert 50 < len(kept) < 200
        assert (await clients.reads.info("memory"))["used_memory"] < 20_000_000
        await clients.require_safe_eviction()
        await clients.close()
