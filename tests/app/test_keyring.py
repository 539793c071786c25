"""The cache in front of the keys' store: how long it believes what, and how much it keeps."""

import asyncio
from dataclasses import replace

import pytest

from adapter_cache.registry_guard import MarkerGuard, MemoryMarker
from app.api_key import ApiKey, SecretHash, hash_secret, key_text
from app.keyring import CachedKeyring, MemoryKeys
from contracts.errors import AdapterCorrupt, StoreUnavailable
from tests.app.keys import DRAFT, Clock

ID, OTHER_ID = "0" * 16, "1" * 16
SECRET = "s" * 43
KEY = replace(DRAFT, key_id=ID, secrets=(SecretHash(hash_secret(SECRET)),))
TEXT = key_text(ID, SECRET)


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


async def test_guesses_leave_the_store_to_others() -> None:
    ring = await make_ring(timeout_s=0.5)
    assert await ring.opens()
    ring.keys.gate.clear()
    guesses = [
        asyncio.ensure_future(ring.opens(key_text(f"{number + 2:016x}", SECRET)))
        for number in range(100)
    ]
    await asyncio.sleep(0.01)
    assert ring.keys.num_asked == 1 + 8
    ring.clock.now_s += 3
    known = asyncio.ensure_future(ring.opens())
    await asyncio.sleep(0.01)
    assert ring.keys.num_asked == 1 + 8 + 1
    ring.keys.gate.set()
    assert await known
    assert await asyncio.gather(*guesses) == [False] * 100


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
