"""Records of keys in every kind of store: one contract."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapter_cache.redis_connect import RedisClients
from adapter_cache.valkey_server import ValkeyServer
from app.api_key import SecretHash, hash_secret
from app.fsspec_keys import FsspecKeys
from app.keyring import KeyStore, MemoryKeys
from app.redis_keyring import RedisKeys
from contracts.errors import AdapterCorrupt
from tests.app.keys import DRAFT

_PREFIXES = itertools.count()
ID, OTHER_ID = "0" * 16, "1" * 16
SECRET = "s" * 43
KEY = replace(DRAFT, key_id=ID, secrets=(SecretHash(hash_secret(SECRET)),))


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer.start(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(params=["memory", "fsspec", pytest.param("redis", marks=pytest.mark.redis)])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyStore]:
    """Each implementation in turn: all keep one contract."""
    if request.param == "memory":
        yield MemoryKeys()
    elif request.param == "fsspec":
        files = FsspecKeys(f"file://{tmp_path}")
        yield files
        await files.close()
    else:
        clients = RedisClients.connect(request.getfixturevalue("valkey").url)
        yield RedisKeys(clients, f"keyring{next(_PREFIXES)}")
        await clients.close()


async def test_the_newest_generation_is_kept(store: KeyStore) -> None:
    assert await store.get(ID) is None
    second = replace(KEY, generation=2, label="two", secrets=(*KEY.secrets, *KEY.secrets))
    assert await store.put(KEY)
    assert await store.get(ID) == KEY
    assert await store.put(second)
    assert not await store.put(KEY)
    assert await store.get(ID) == second
    assert await store.get(OTHER_ID) is None


async def test_no_record_takes_a_revocation_back(store: KeyStore) -> None:
    await store.put(KEY)
    for _ in range(2):
        await store.revoke(ID)
    assert await store.get(ID) == replace(KEY, is_revoked=True)
    await store.put(replace(KEY, generation=2))
    found = await store.get(ID)
    assert found is not None
    assert (found.generation, found.is_revoked) == (2, True)


async def test_a_revocation_may_come_before_its_record(store: KeyStore) -> None:
    await store.revoke(ID)
    assert await store.get(ID) is None
    await store.put(KEY)
    assert await store.get(ID) == replace(KEY, is_revoked=True)


async def test_of_racing_changes_one_is_kept(store: KeyStore) -> None:
    changes = [replace(KEY, generation=number, label=str(number)) for number in range(1, 9)]
    await asyncio.gather(*map(store.put, changes))
    assert await store.get(ID) == changes[-1]


async def test_the_object_store_lists_its_keys_and_lets_one_win(tmp_path: Path) -> None:
    files = FsspecKeys(f"file://{tmp_path}")
    assert [key_id async for key_id in files.key_ids()] == []
    for key_id in (ID, OTHER_ID):
        await files.put(replace(KEY, key_id=key_id))
    await files.revoke(OTHER_ID)
    assert [key_id async for key_id in files.key_ids()] == [ID, OTHER_ID]
    twins = [replace(KEY, generation=2, label=label) for label in "abcdef"]
    won = await asyncio.gather(*map(files.put, twins))
    assert won.count(True) == 1
    assert await files.get(ID) == twins[won.index(True)]
    await files.close()
    assert SECRET not in stored_text(tmp_path)


def stored_text(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*") if path.is_file())


@pytest.mark.redis
async def test_keys_in_redis_never_expire_and_hold_no_secret(valkey: ValkeyServer) -> None:
    clients = RedisClients.connect(valkey.url)
    keys = RedisKeys(clients, "bare")
    await keys.put(KEY)
    await keys.revoke(ID)
    async with clients.reading() as redis:
        names = [name async for name in redis.scan_iter("bare:*")]
        assert names == [f"bare:key:{ID}".encode()]
        assert await redis.ttl(names[0]) == -1
        assert SECRET not in str(await redis.hgetall(names[0]))
    async with clients.writing() as redis:
        await redis.hset(names[0], "record", "damaged")
    with pytest.raises(AdapterCorrupt, match=ID):
        await keys.get(ID)
    await clients.close()
