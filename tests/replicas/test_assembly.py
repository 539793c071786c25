"""All of a replica but the model, over a real Valkey and a folder of objects."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from adapter_cache.config import CacheConfig
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.node_cache import NodeCache
from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_feed import RedisFeed
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.valkey_server import ValkeyServer
from contracts.adapters import AdapterKey, Digest
from contracts.errors import StoreUnavailable
from replicas.assembly import Assembly, make_engine
from replicas.config import ReplicaConfig
from replicas.replica import Replica
from tests.adapter_cache.adapters import publish
from tests.replicas.engines import LAYOUT, collect, lost_key, make_group, text_of
from tests.replicas.rows import make_row

pytestmark = pytest.mark.redis

Publish = Callable[[str, int], Awaitable[AdapterKey]]


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer.start(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def config(valkey: ValkeyServer, tmp_path: Path) -> CacheConfig:
    return make_config(valkey.url, tmp_path)


def make_config(redis_url: str, folder: Path, node: str = "node") -> CacheConfig:
    return CacheConfig(
        redis_url=redis_url,
        key_prefix=f"flora-{folder.name}",
        node_cache_dir=folder / node,
        node_cache_bytes=1 << 20,
        object_store_url=f"file://{folder / 'objects'}",
        usage_report_s=0.05,
        warm_timeout_s=5.0,
    )


@asynccontextmanager
async def running(config: CacheConfig) -> AsyncIterator[Assembly]:
    assembly = Assembly(make_engine(ReplicaConfig("m", engine="echo")), config)
    try:
        await assembly.replica.start()
        yield assembly
    finally:
        await assembly.close()


@asynccontextmanager
async def publishing(config: CacheConfig) -> AsyncIterator[Publish]:
    """Publishes a row by name and seed, as the door does."""
    clients = RedisClients.connect(config.redis_url)
    registry = RedisRegistry(clients, config.key_prefix)
    store = DurableAdapterStore(
        registry,
        RedisBlobs(clients, config.key_prefix),
        FsspecObjects(config.object_store_url),
        RedisFeed(clients, config.key_prefix),
        keep_versions=10,
    )

    async def publish_row(name: str, seed: int) -> AdapterKey:
        return (await publish(store, name, make_row(LAYOUT, (0, 0), seed))).key

    yield publish_row
    await store.close()


def resident(config: CacheConfig, node: str = "node") -> set[Digest]:
    cache = NodeCache(config.node_cache_dir.parent / node, config.node_cache_bytes)
    return {each.digest for each in cache.residents()}


async def until_long(config: CacheConfig, num_entries: int) -> None:
    """Wait until the feed's stream has so many entries."""
    clients = RedisClients.connect(config.redis_url)
    found = 0
    while found < num_entries:
        found = await clients.reads.xlen(f"{config.key_prefix}:changes")
        await asyncio.sleep(0.02)
    await clients.close()


async def eventually(is_so: Callable[[], object]) -> None:
    for _ in range(500):
        if is_so():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it never became so")


async def ask(replica: Replica, key: AdapterKey, request_id: int = 0) -> str:
    return text_of((await collect(replica, make_group(key, first_id=request_id)))[0])


async def test_from_the_store_to_an_answer_and_on_to_the_next_version(config: CacheConfig) -> None:
    async with publishing(config) as publish_row, running(config) as assembly:
        old = await publish_row("ada", 0)
        assert f":{old.digest[:8]}" in await ask(assembly.replica, old)
        # Two entries: the news of the first version, and the follower's own when it joined.
        await until_long(config, 2)
        new = await publish_row("ada", 1)
        await eventually(lambda: resident(config) == {new.digest})
        assert f":{new.digest[:8]}" in await ask(assembly.replica, new)
        page = (await assembly.metrics.render()).decode()
    assert "flora_slots_used 1.0" in page
    assert 'flora_cache_requests_total{result="hit",tier="redis"} 2.0' in page
    assert 'flora_cache_requests_total{result="hit",tier="node"} 1.0' in page


async def test_the_next_replica_starts_warm(config: CacheConfig, tmp_path: Path) -> None:
    async with publishing(config) as publish_row:
        often = await publish_row("often", 0)
        never = await publish_row("never", 1)
        async with running(config) as assembly:
            await ask(assembly.replica, often)
    other = make_config(config.redis_url, tmp_path, "other")
    async with running(other) as assembly:
        assert resident(config, "other") == {often.digest}
        assert f":{never.digest[:8]}" in await ask(assembly.replica, never)


async def test_it_starts_and_serves_what_is_at_hand_without_redis(
    config: CacheConfig, tmp_path: Path
) -> None:
    async with publishing(config) as publish_row, running(config) as assembly:
        key = await publish_row("ada", 0)
        cold = await publish_row("cold", 1)
        await ask(assembly.replica, key)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    async with running(make_config(f"redis://127.0.0.1:{port}", tmp_path)) as assembly:
        assert f":{key.digest[:8]}" in await ask(assembly.replica, key)
        # The object store has what Redis would.
        assert f":{cold.digest[:8]}" in await ask(assembly.replica, cold, 1)
        found = await collect(assembly.replica, make_group(lost_key(), first_id=2))
        assert found[0][0].error is not None
        assert not isinstance(found[0][0].error, StoreUnavailable)
    assert asyncio.all_tasks() == {asyncio.current_task()}
