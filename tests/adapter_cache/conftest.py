"""One Valkey server a session, and a fresh store a test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from adapter_cache.blobs import BlobTier, MemoryBlobs
from adapter_cache.changes import MemoryFeed
from adapter_cache.config import RedisLimits
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.registry import MemoryRegistry
from adapter_cache.store import AdapterStore, MemoryStore
from adapter_cache.valkey_server import ValkeyServer
from tests.adapter_cache.servers import clients as clients
from tests.adapter_cache.servers import cluster_url as cluster_url
from tests.adapter_cache.servers import other_url as other_url
from tests.adapter_cache.servers import prefix as prefix
from tests.adapter_cache.servers import redis_url as redis_url
from tests.adapter_cache.servers import valkey_url as valkey_url

Stored = tuple[AdapterStore, BlobTier]
"""A store, and where the bytes of what it publishes lie."""


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer.start(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def memory_stored() -> Stored:
    store = MemoryStore(keep_versions=100)
    return store, store


@pytest.fixture
async def objects(tmp_path: Path) -> AsyncIterator[FsspecObjects]:
    """An object store in a folder."""
    objects = FsspecObjects(f"file://{tmp_path}/objects")
    yield objects
    await objects.close()


@pytest.fixture
def durable_stored(objects: FsspecObjects) -> Stored:
    registry, hot, feed = MemoryRegistry(), MemoryBlobs(), MemoryFeed()
    return DurableAdapterStore(registry, hot, objects, feed, keep_versions=100), objects


@pytest.fixture
async def redis_clients(valkey: ValkeyServer) -> AsyncIterator[RedisClients]:
    clients = RedisClients.connect(valkey.url, RedisLimits())
    yield clients
    await clients.close()


@pytest.fixture
def durable_redis_stored(
    objects: FsspecObjects, redis_clients: RedisClients, request: pytest.FixtureRequest
) -> Stored:
    prefix = request.node.nodeid.replace("[", "(")
    registry, hot = RedisRegistry(redis_clients, prefix), RedisBlobs(redis_clients, prefix)
    return DurableAdapterStore(registry, hot, objects, MemoryFeed(), keep_versions=100), hot


@pytest.fixture(
    params=["memory", "durable", pytest.param("durable_redis", marks=pytest.mark.redis)]
)
def stored(request: pytest.FixtureRequest) -> Stored:
    """Each implementation in turn: all keep one contract."""
    found: Stored = request.getfixturevalue(f"{request.param}_stored")
    return found


@pytest.fixture
def store(stored: Stored) -> AdapterStore:
    return stored[0]


@pytest.fixture
def blobs(stored: Stored) -> BlobTier:
    return stored[1]
