"""Publishers that break off, race and overtake each other."""

import asyncio
from itertools import pairwise

import pytest

from adapter_cache.changes import MemoryFeed
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_registry import RedisRegistry
from contracts.adapters import DEFAULT_TENANT, AdapterRef
from contracts.errors import AdapterCorrupt, StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob, publish
from tests.adapter_cache.durable import ADA, DOWN, Parts
from tests.adapter_cache.steps import failing, once


@pytest.fixture
def parts(objects: FsspecObjects) -> Parts:
    return Parts(objects)


async def test_a_registry_lost_after_the_entry_is_made_good_by_the_next_publish(
    parts: Parts,
) -> None:
    first = await publish(parts.store(), "ada", make_blob(1))
    broken = parts.store(registry=failing("before advance", DOWN))
    with pytest.raises(StoreUnavailable):
        await publish(broken, "ada", make_blob(2))
    assert await broken.resolve([ADA]) == [first.key]
    again = await publish(parts.store(), "ada", make_blob(2), created_at_s=9.0)
    assert (again.key.version, again.created_at_s) == (2, 1_700_000_000.125)
    assert await broken.resolve([ADA]) == [again.key]
    assert await broken.versions(DEFAULT_TENANT, "ada") == [first, again]
    with pytest.raises(StoreUnavailable):
        await publish(broken, "ada", make_blob(3))
    assert (await publish(parts.store(), "ada", make_blob(4))).key.version == 4


async def test_a_lost_reply_of_the_registry_is_made_good_too(parts: Parts) -> None:
    broken = parts.store(registry=failing("after advance", DOWN))
    with pytest.raises(StoreUnavailable):
        await publish(broken, "ada", make_blob(1))
    again = await publish(parts.store(), "ada", make_blob(1))
    assert await broken.versions(DEFAULT_TENANT, "ada") == [again]


@pytest.mark.parametrize("step", ["before forget", "before remove_entries", "after name_files"])
async def test_pruning_that_fails_is_logged(
    parts: Parts, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    await publish(parts.store(), "ada", make_blob(1))
    act = failing(step, DOWN)
    tries = 0

    async def later(now: str) -> None:
        nonlocal tries
        tries += now == step
        # The first listing is the publish's own.
        if tries > (step == "after name_files"):
            await act(now)

    store = parts.store(keep_versions=1, objects=later, registry=later)
    second = await publish(store, "ada", make_blob(2))
    assert await store.resolve([ADA]) == [second.key]
    assert "not tidied" in caplog.text
    assert [change.new for change in parts.feed.announced][-1] == second.key


async def test_moves_of_the_pointer_are_announced(parts: Parts) -> None:
    store = parts.store()
    one, two = digest_of(make_blob(1)), digest_of(make_blob(2))
    keys = [(await publish(store, "ada", make_blob(seed))).key for seed in (1, 1, 2)]
    back = await store.rollback(DEFAULT_TENANT, "ada", 1, 5.0)
    assert back is not None
    for _ in range(2):
        await store.delete(DEFAULT_TENANT, "ada")
    moves = [(change.old, change.new) for change in parts.feed.announced]
    assert moves == [("", keys[0]), (one, keys[2]), (two, back.key), (one, None)]


@pytest.mark.parametrize("num_digests", [1, 20])
async def test_twenty_publishers_over_two_stores_agree(parts: Parts, num_digests: int) -> None:
    stores = [parts.store(), parts.store()]
    blobs = [make_blob(number % num_digests) for number in range(20)]
    raced = await asyncio.gather(
        *(publish(stores[number % 2], "ada", blob) for number, blob in enumerate(blobs))
    )
    versions = {manifest.key.version for manifest in raced}
    assert versions == set(range(1, num_digests + 1))
    kept = await stores[0].versions(DEFAULT_TENANT, "ada")
    assert set(kept) == set(raced)
    assert await stores[1].resolve([ADA]) == [kept[-1].key]


@pytest.mark.redis
async def test_twenty_publishers_over_redis_agree(
    objects: FsspecObjects, redis_clients: RedisClients
) -> None:
    registry, hot = RedisRegistry(redis_clients, "twenty"), RedisBlobs(redis_clients, "twenty")
    stores = [
        DurableAdapterStore(registry, hot, objects, MemoryFeed(), keep_versions=5) for _ in range(2)
    ]
    raced = await asyncio.gather(
        *(publish(stores[number % 2], "ada", make_blob(number)) for number in range(20))
    )
    assert {manifest.key.version for manifest in raced} == set(range(1, 21))
    newest = max(raced, key=lambda manifest: manifest.key.version)
    assert await stores[0].resolve([ADA]) == [newest.key]
    await publish(stores[0], "ada", make_blob(99))
    kept = [manifest.key.version for manifest in await stores[0].versions(DEFAULT_TENANT, "ada")]
    assert kept == [17, 18, 19, 20, 21]
    assert set((await objects.name_files(DEFAULT_TENANT, "ada")).entries) == set(kept)


async def test_versions_next_to_each_other_always_differ(parts: Parts) -> None:
    stores = [parts.store(), parts.store()]
    for _ in range(5):
        await asyncio.gather(
            *(publish(stores[number % 2], "ada", make_blob(number % 3)) for number in range(12))
        )
    digests = [each.key.digest for each in await stores[0].versions(DEFAULT_TENANT, "ada")]
    assert all(one != other for one, other in pairwise(digests))


async def test_a_publish_overtaken_by_a_delete_stays_deleted(parts: Parts) -> None:
    store = parts.store()
    delete = once("before advance", lambda: store.delete(DEFAULT_TENANT, "ada"))
    await publish(store, "ada", make_blob(1))
    late = await publish(parts.store(registry=delete), "ada", make_blob(2))
    assert await store.resolve([ADA, AdapterRef(DEFAULT_TENANT, "ada", late.key.version)]) == [
        None,
        None,
    ]
    assert (await publish(store, "ada", make_blob(2))).key.version > late.key.version


async def test_a_publish_overtaken_by_many_is_pruned(parts: Parts) -> None:
    store = parts.store(keep_versions=2)

    async def publish_more() -> None:
        for seed in (3, 4, 5):
            await publish(store, "ada", make_blob(seed))

    slow = parts.store(keep_versions=2, registry=once("before advance", publish_more))
    late = await publish(slow, "ada", make_blob(2))
    kept = [manifest.key.version for manifest in await store.versions(DEFAULT_TENANT, "ada")]
    assert (late.key.version, kept) == (1, [3, 4])


async def test_a_delete_overtaken_by_a_publish_leaves_it(parts: Parts) -> None:
    store = parts.store()
    await publish(store, "ada", make_blob(1))
    again = once("before remove", lambda: publish(store, "ada", make_blob(2)))
    assert await parts.store(registry=again).delete(DEFAULT_TENANT, "ada") is True
    [kept] = await store.versions(DEFAULT_TENANT, "ada")
    assert (kept.key.version, await store.resolve([ADA])) == (3, [kept.key])
    assert parts.feed.announced[-1].new == kept.key


@pytest.mark.parametrize("finish", ["delete", "publish"])
async def test_a_delete_that_broke_off_is_finished(parts: Parts, finish: str) -> None:
    store = parts.store()
    await publish(store, "ada", make_blob(1))
    await store.pin(ADA)
    broken = parts.store(registry=failing("before remove", DOWN))
    with pytest.raises(StoreUnavailable):
        await broken.delete(DEFAULT_TENANT, "ada")
    if finish == "delete":
        assert await store.delete(DEFAULT_TENANT, "ada") is True
        assert await store.delete(DEFAULT_TENANT, "ada") is False
    else:
        assert (await publish(store, "ada", make_blob(2))).key.version == 3
    files = await parts.objects.name_files(DEFAULT_TENANT, "ada")
    assert (min(files.entries), files.pins) == (2, frozenset())


async def test_bytes_taken_while_the_publish_ran_are_put_again(parts: Parts) -> None:
    blob = make_blob(1)
    take = once("before create_entry", lambda: parts.objects.delete_blob(digest_of(blob)))
    await publish(parts.store(objects=take), "ada", blob)
    assert await parts.objects.get_blob(digest_of(blob)) == blob
    await parts.objects.delete_blob(digest_of(blob))
    await publish(parts.store(), "ada", blob)
    assert await parts.objects.get_blob(digest_of(blob)) == blob


async def test_a_name_too_busy_to_get_a_number_is_an_outage(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(*_: object) -> bool:
        return False

    monkeypatch.setattr("adapter_cache.version_log._MAX_TRIES", 3)
    await publish(parts.store(), "ada", make_blob(1))
    monkeypatch.setattr(parts.objects, "create_entry", taken)
    for call in (
        publish(parts.store(), "ada", make_blob(2)),
        parts.store().delete(DEFAULT_TENANT, "ada"),
    ):
        with pytest.raises(StoreUnavailable, match="too many"):
            await call


async def test_a_damaged_registry_record_does_not_stop_a_publish(parts: Parts) -> None:
    await publish(parts.store(), "ada", make_blob(1))
    broken = parts.store(registry=failing("before resolve", AdapterCorrupt("damaged")))
    second = await publish(broken, "ada", make_blob(2))
    assert await parts.store().resolve([ADA]) == [second.key]
