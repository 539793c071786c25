"""Keys in every kind of store, and the cache in front of them."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapter_cache.redis_connect import RedisClients
from adapter_cache.registry_guard import MarkerGuard, MemoryMarker
from adapter_cache.valkey_server import ValkeyServer
from app.api_key import ApiKey, SecretHash, hash_secret, key_text
from app.fsspec_keys import FsspecKeys
from app.keyring import CachedKeyring, KeyStore, MemoryKeys
from app.redis_keyring import RedisKeys
from contracts.errors import AdapterCorrupt, StoreUnavailable
from tests.app.keys import DRAFT, Clock

_PREFIXES = itertools.count()
ID, OTHER_ID = "0" * 16, "1" * 16
SECRET = "s" * 43
KEY = replace(DRAFT, key_id=ID, secrets=(SecretHash(hash_secret(SECRET)),))
TEXT = key_text(ID, SECRET)


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


class CountedKeys(MemoryKeys):
    """Counts look-ups, fails or waits when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.num_asked = 0
        self.fault: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, key_id: str) -> ApiKey | None:
        self.num_asked += 1
        await self.gate.wait()
        if self.fault:
            raise self.fault
        return await super().get(key_id)


class Ring:
    """A cached keyring with one key, and what moves its time."""

    def __init__(self, guard: MarkerGuard | None = None, timeout_s: float = 5.0) -> None:
        self.keys, self.clock, self.unix_clock = CountedKeys(), Clock(), Clock()
        self.ring = CachedKeyring(
            self.keys,
            ttl_s=3,
            stale_max_s=60,
            guard=guard,
            timeout_s=timeout_s,
            pause_s=1,
            max_keys=2,
            max_unknown=2,
            clock=self.clock,
            unix_clock=self.unix_clock,
        )

    async def opens(self, text: str = TEXT) -> bool:
        return await self.ring.find(text) is not None


async def make_ring(guard: MarkerGuard | None = None, timeout_s: float = 5.0) -> Ring:
    made = Ring(guard, timeout_s)
    await made.keys.put(KEY)
    return made


async def test_a_key_is_asked_for_once_in_its_time() -> None:
    ring = await make_ring()
    callers = {await ring.ring.find(TEXT) for _ in range(5)}
    assert (callers, ring.keys.num_asked) == ({KEY.caller()}, 1)
    ring.clock.now_s += 3
    assert await ring.opens()
    assert ring.keys.num_asked == 2


async def test_a_wrong_secret_opens_nothing_and_shuts_nobody_out() -> None:
    ring = await make_ring()
    assert not await ring.opens(key_text(ID, "t" * 43))
    assert await ring.opens()
    assert ring.keys.num_asked == 1


@pytest.mark.parametrize("text", ["", "x", "flora-1-2", TEXT + "\n", TEXT.upper(), f" {TEXT}"])
async def test_what_cannot_be_a_key_asks_nobody(text: str) -> None:
    ring = await make_ring()
    assert not await ring.opens(text)
    assert ring.keys.num_asked == 0


async def test_callers_at_a_time_share_one_look_up_and_outlive_each_other() -> None:
    ring = await make_ring()
    ring.keys.gate.clear()
    asking = [asyncio.ensure_future(ring.opens()) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking[0].cancel()
    ring.keys.gate.set()
    found = await asyncio.gather(*asking, return_exceptions=True)
    assert found[1:] == [True] * 19
    assert ring.keys.num_asked == 1


async def test_a_revoked_key_stops_within_its_time() -> None:
    ring = await make_ring()
    assert await ring.opens()
    await ring.keys.revoke(ID)
    ring.clock.now_s += 2.9
    assert await ring.opens()
    ring.clock.now_s += 0.1
    assert not await ring.opens()


async def test_expiry_is_told_by_the_time_of_day_at_once() -> None:
    ring = await make_ring()
    await ring.keys.put(replace(KEY, generation=2, expires_at_s=ring.unix_clock.now_s + 1))
    assert await ring.opens()
    ring.unix_clock.now_s += 1
    assert not await ring.opens()


async def test_a_new_key_opens_when_its_absence_is_forgotten() -> None:
    ring = await make_ring()
    text = key_text(OTHER_ID, SECRET)
    assert not await ring.opens(text)
    await ring.keys.put(replace(KEY, key_id=OTHER_ID))
    assert not await ring.opens(text)
    ring.clock.now_s += 3
    assert await ring.opens(text)


async def test_guesses_push_no_key_out_and_memory_is_bounded() -> None:
    ring = await make_ring()
    assert await ring.opens()
    for number in range(50):
        assert not await ring.opens(key_text(f"{number + 2:016x}", SECRET))
    assert (len(ring.ring._known), len(ring.ring._unknown)) == (1, 2)
    asked = ring.keys.num_asked
    assert await ring.opens()
    assert ring.keys.num_asked == asked


async def test_while_the_store_is_away_known_keys_go_on_for_a_while() -> None:
    ring = await make_ring()
    assert await ring.opens()
    ring.keys.fault = StoreUnavailable("down")
    ring.clock.now_s += 59
    assert await ring.opens()
    with pytest.raises(StoreUnavailable):
        await ring.opens(key_text(OTHER_ID, SECRET))
    ring.clock.now_s += 1
    with pytest.raises(StoreUnavailable):
        await ring.opens()
    ring.keys.fault = None
    ring.clock.now_s += 1
    assert await ring.opens()
    assert "in touch" in repr(ring.ring)


async def test_in_an_outage_nobody_waits_whom_memory_can_answer() -> None:
    ring = await make_ring()
    assert await ring.opens()
    ring.keys.fault = StoreUnavailable("down")
    ring.clock.now_s += 3
    assert await ring.opens()
    ring.keys.gate.clear()
    ring.clock.now_s += 1
    # One asks in the background; it hangs, and nobody else asks beside it.
    assert [await ring.opens() for _ in range(5)] == [True] * 5
    assert ring.keys.num_asked == 2
    await asyncio.sleep(0)
    assert ring.keys.num_asked == 3
    with pytest.raises(StoreUnavailable):
        await ring.opens(key_text(OTHER_ID, SECRET))
    await ring.ring.close()


async def test_a_store_that_hangs_is_not_waited_for_for_ever() -> None:
    ring = await make_ring(timeout_s=0.01)
    ring.keys.gate.clear()
    with pytest.raises(StoreUnavailable):
        await ring.opens()


async def test_the_damage_of_one_key_is_no_outage() -> None:
    ring = await make_ring()
    ring.keys.fault = AdapterCorrupt("damaged")
    with pytest.raises(StoreUnavailable):
        await ring.opens()
    ring.keys.fault = None
    assert await ring.opens()
    assert "in touch" in repr(ring.ring)


async def test_an_emptied_store_calls_no_key_unknown() -> None:
    marker = MemoryMarker()
    await marker.finish(await marker.begin("a"))
    ring = await make_ring(MarkerGuard(marker))
    assert await ring.opens()
    assert not await ring.opens(key_text(OTHER_ID, SECRET))
    marker.wipe()
    ring.keys.wipe()
    ring.clock.now_s += 3
    assert await ring.opens()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await ring.opens(key_text("2" * 16, SECRET))
    # Those that are there again open, whoever else asks for what is not.
    await ring.keys.put(replace(KEY, key_id="3" * 16))
    assert await ring.opens(key_text("3" * 16, SECRET))
    ring.clock.now_s += 60
    with pytest.raises(StoreUnavailable):
        await ring.opens()
