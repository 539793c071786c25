"""One Valkey server a session, and a fresh store a test."""

from collections.abc import AsyncIterator, Iterator

import pytest

from adapter_cache.redis_store import RedisAdapterStore
from adapter_cache.store import AdapterStore, MemoryStore
from adapter_cache.valkey_server import ValkeyServer


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


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.redis)])
def store(request: pytest.FixtureRequest) -> AdapterStore:
    """Each implementation in turn: both keep one contract."""
    if request.param == "memory":
        return MemoryStore()
    found: AdapterStore = request.getfixturevalue("redis_store")
    return found
