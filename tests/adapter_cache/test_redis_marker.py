"""The marker on a real server: it says what its fake says, and a wipe takes it along."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_marker import RedisMarker
from adapter_cache.registry_guard import MemoryMarker, RegistryGuard
from adapter_cache.valkey_server import ValkeyServer
from contracts.errors import NotReady, StoreUnavailable

pytestmark = pytest.mark.redis

_PREFIXES = (f"marker-{number}" for number in itertools.count())


@pytest.fixture
async def clients(valkey: ValkeyServer) -> AsyncIterator[RedisClients]:
    clients = RedisClients.connect(valkey.url)
    yield clients
    await clients.close()


async def wipe(clients: RedisClients) -> None:
    async with clients.writing() as redis:
        await redis.flushall()


STEPS = st.lists(
    st.tuples(st.sampled_from(["begin", "finish", "whole", "wipe"]), st.sampled_from("ab")),
    max_size=12,
)


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_it_says_what_the_fake_says(valkey: ValkeyServer, steps: list[tuple[str, str]]) -> None:
    async def scenario() -> None:
        clients = RedisClients.connect(valkey.url)
        marker, fake = RedisMarker(clients, next(_PREFIXES)), MemoryMarker()
        for step, token in steps:
            if step == "begin":
                assert await marker.begin(token) == await fake.begin(token)
            elif step == "finish":
                assert await marker.finish(token) == await fake.finish(token)
            elif step == "wipe":
                await wipe(clients)
                fake.wipe()
            assert await marker.is_whole() == await fake.is_whole()
        await clients.close()

    asyncio.run(scenario())


async def test_a_wiped_server_is_rebuilt(clients: RedisClients) -> None:
    marker = RedisMarker(clients, next(_PREFIXES))
    tokens = map(str, itertools.count())
    rebuilt: list[bool] = []

    async def rebuild() -> None:
        rebuilt.append(await marker.is_whole())

    guard = RegistryGuard(marker, rebuild, new_token=lambda: next(tokens), check_s=3600)
    running = asyncio.ensure_future(guard.run())
    for num_wipes in range(1, 4):
        async with asyncio.timeout(10):
            while not await marker.is_whole():  # noqa: ASYNC110 (a server has no event)
                await asyncio.sleep(0.01)
        await guard.require_whole()
        assert rebuilt == [False] * num_wipes
        await wipe(clients)
        with pytest.raises(NotReady):
            await guard.require_whole()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert repr(marker).startswith("<RedisMarker 'marker-")


async def test_a_server_that_is_away_is_not_an_empty_one() -> None:
    clients = RedisClients.connect("redis://127.0.0.1:1/0")
    guard = RegistryGuard(RedisMarker(clients), lambda: asyncio.sleep(0), new_token=lambda: "t")
    for call in (guard.require_whole, guard.check):
        with pytest.raises(StoreUnavailable):
            await call()
    await clients.close()
