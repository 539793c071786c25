"""Changes of keys: the truth first, then the copy, and what happens between them."""

from dataclasses import replace

import pytest

from app.api_key import ApiKey, parse_key_text
from app.keyring import MemoryKeys
from contracts.errors import AdapterCorrupt, InvalidRequest, StoreUnavailable
from tests.app.keys import DRAFT, Clock, MemoryRecords, make_issuer


async def opens(keys: MemoryKeys, text: str, now_s: float) -> bool:
    parsed = parse_key_text(text)
    assert parsed is not None
    key = await keys.get(parsed[0])
    return key is not None and key.is_opened_by(parsed[1], now_s)


async def test_a_new_key_opens_and_its_secret_is_kept_nowhere() -> None:
    copy, clock = MemoryKeys(), Clock()
    issuer = make_issuer(copy, clock)
    key, text = await issuer.create(DRAFT)
    assert await opens(copy, text, clock.now_s)
    assert (key.tenant, key.created_at_s, key.generation) == ("acme", clock.now_s, 1)
    assert text.rpartition("-")[2] not in repr(key)
    assert await issuer.show(key.key_id) == key
    assert await issuer.has_usable()


async def test_a_bad_draft_makes_no_key() -> None:
    issuer = make_issuer()
    with pytest.raises(InvalidRequest):
        await issuer.create(replace(DRAFT, weight=-1.0))
    assert [key async for key in issuer.all_keys()] == []
    assert not await issuer.has_usable()


async def test_a_rotated_key_opens_by_both_secrets_for_a_while() -> None:
    copy, clock = MemoryKeys(), Clock()
    issuer = make_issuer(copy, clock)
    key, old = await issuer.create(DRAFT)
    rotated, new = await issuer.rotate(key.key_id, 60)
    assert rotated.generation == 2
    assert [await opens(copy, text, clock.now_s + 59) for text in (old, new)] == [True, True]
    assert [await opens(copy, text, clock.now_s + 60) for text in (old, new)] == [False, True]
    _, newest = await issuer.rotate(key.key_id, 0)
    assert [await opens(copy, text, clock.now_s) for text in (old, new, newest)] == [
        False,
        False,
        True,
    ]


async def test_a_revoked_key_opens_no_more_and_stays_so() -> None:
    copy, clock = MemoryKeys(), Clock()
    issuer = make_issuer(copy, clock)
    key, text = await issuer.create(DRAFT)
    for _ in range(2):
        assert (await issuer.revoke(key.key_id)).is_revoked
    assert not await opens(copy, text, clock.now_s)
    with pytest.raises(InvalidRequest, match="revoked"):
        await issuer.rotate(key.key_id, 60)
    assert not await issuer.has_usable()
    assert [key.is_revoked async for key in issuer.all_keys()] == [True]


@pytest.mark.parametrize("key_id", ["", "f" * 16, "../../x", "flora-0000000000000001-secret"])
async def test_an_unknown_id_is_refused_without_being_repeated(key_id: str) -> None:
    for change in (make_issuer().revoke, make_issuer().show):
        with pytest.raises(InvalidRequest) as raised:
            await change(key_id)
        assert not key_id or key_id not in str(raised.value)


class BrokenCopy(MemoryKeys):
    async def put(self, key: ApiKey) -> bool:
        raise StoreUnavailable("down")


async def test_what_the_copy_has_missed_or_lost_is_told_again() -> None:
    records, copy, clock = MemoryRecords(), MemoryKeys(), Clock()
    with pytest.raises(StoreUnavailable):
        await make_issuer(BrokenCopy(), clock, records).create(DRAFT)
    issuer = make_issuer(copy, clock, records)
    _, text = await issuer.create(DRAFT)
    revoked, _ = await issuer.create(DRAFT)
    await issuer.revoke(revoked.key_id)
    copy.wipe()
    for _ in range(2):
        assert await issuer.copy_all() == 3
    for each in [key async for key in issuer.all_keys()]:
        assert await copy.get(each.key_id) == each
    assert await opens(copy, text, clock.now_s)


class RacedRecords(MemoryRecords):
    """Somebody else rotates the key first."""

    async def put(self, key: ApiKey) -> bool:
        if key.generation > 1:
            await super().put(replace(key, label="theirs"))
        return await super().put(key)


async def test_who_loses_a_race_gets_no_key_that_does_not_open() -> None:
    issuer = make_issuer(records=RacedRecords())
    key, _ = await issuer.create(DRAFT)
    with pytest.raises(StoreUnavailable, match="meanwhile"):
        await issuer.rotate(key.key_id, 60)
    assert (await issuer.show(key.key_id)).label == "theirs"


class DamagedRecords(MemoryRecords):
    damaged = ""

    async def get(self, key_id: str) -> ApiKey | None:
        if key_id == self.damaged:
            raise AdapterCorrupt(f"the stored record of key {key_id} is damaged")
        return await super().get(key_id)


async def test_a_damaged_record_hides_no_other() -> None:
    records = DamagedRecords()
    issuer = make_issuer(records=records)
    damaged, whole = [(await issuer.create(DRAFT))[0] for _ in range(2)]
    records.damaged = damaged.key_id
    assert [key async for key in issuer.all_keys()] == [whole]
    assert await issuer.copy_all() == 1
