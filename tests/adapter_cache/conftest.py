"""One Valkey server a session, and a fresh store a test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from adapter_cache.blobs import BlobTier
from adapter_cache.redis_store import RedisAdapterStore
from adapter_cache.store import AdapterStore, MemoryStore
from adapter_cache.valkey_server import ValkeyServer

Stored = tuple[AdapterStore, BlobTier]
"""A store, and where the bytes of what it publishes lie."""


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer.start(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def redis_store(
    valkey: ValkeyServer, request: pytest.FixtureRequest
) -> AsyncIterator[RedisAdapterStore]:
    store = RedisAdapterStore(valkey.url, key_prefix=request.node.nodeid)
    yield store
    await store.close()


@pytest.fixture
def memory_stored() -> Stored:
    store = MemoryStore(keep_versions=100)
    return store, store


@pytest.fixture(params=["memory"])
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
