"""What only the durable store has: tiers that fail and are filled."""

from dataclasses import replace

import pytest

from adapter_cache.fsspec_objects import FsspecObjects
from contracts.adapters import DEFAULT_TENANT, TenantId
from contracts.errors import AdapterCorrupt, StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob, publish
from tests.adapter_cache.durable import ADA, DOWN, Parts
from tests.adapter_cache.steps import failing, once

READER = TenantId("reader")


@pytest.fixture
def parts(objects: FsspecObjects) -> Parts:
    return Parts(objects)


@pytest.mark.parametrize("step", ["name_files", "put_blob", "create_entry"])
async def test_without_the_object_store_nothing_changes(parts: Parts, step: str) -> None:
    first = await publish(parts.store(), "ada", make_blob(1))
    store = parts.store(objects=failing(f"before {step}", DOWN))
    with pytest.raises(StoreUnavailable):
        await publish(store, "ada", make_blob(2))
    assert await store.versions(DEFAULT_TENANT, "ada") == [first]
    assert await store.resolve([ADA]) == [first.key]
    assert (await publish(parts.store(), "ada", make_blob(2))).key.version == 2


async def test_without_the_registry_nothing_is_written(parts: Parts) -> None:
    with pytest.raises(StoreUnavailable):
        await publish(parts.store(registry=failing("before resolve", DOWN)), "ada", make_blob(1))
    assert await parts.num_blobs() == 0
    assert await parts.objects.entries(DEFAULT_TENANT, "ada") == []


async def test_a_hot_tier_that_fails_is_logged(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    manifest = await publish(parts.store(hot=failing("before put", DOWN)), "ada", make_blob(1))
    assert await parts.store().resolve([ADA]) == [manifest.key]
    assert parts.hot.blobs == {}
    assert "hot tier" in caplog.text


async def test_a_rollback_needs_its_bytes_and_puts_them_anew(parts: Parts) -> None:
    store = parts.store()
    for seed in (1, 2):
        await publish(store, "ada", make_blob(seed))
    parts.hot.blobs.clear()
    assert await store.rollback(DEFAULT_TENANT, "ada", None, 5.0)
    assert set(parts.hot.blobs) == {digest_of(make_blob(1))}
    await parts.objects.delete_blob(digest_of(make_blob(2)))
    with pytest.raises(AdapterCorrupt, match="lost version 2"):
        await store.rollback(DEFAULT_TENANT, "ada", 2, 6.0)
    assert len(await store.versions(DEFAULT_TENANT, "ada")) == 3


async def test_prefetch_fills_the_hot_tier_from_the_object_store(parts: Parts) -> None:
    store, digest = parts.store(), digest_of(make_blob(1))
    await publish(store, "ada", make_blob(1))
    parts.hot.blobs.clear()
    assert await store.prefetch(ADA) is not None
    assert parts.hot.blobs == {digest: make_blob(1)}
    await parts.objects.put_blob(digest, b"other bytes")
    assert await store.prefetch(ADA) is not None
    parts.hot.blobs.clear()
    with pytest.raises(AdapterCorrupt):
        await store.prefetch(ADA)


async def test_a_version_pruned_while_it_is_pinned_stays_gone(parts: Parts) -> None:
    store = parts.store(keep_versions=1)
    await publish(store, "ada", make_blob(1))
    prune = once("before pin", lambda: publish(store, "ada", make_blob(2)))
    assert await parts.store(objects=prune).pin(ADA) is None
    assert (await parts.objects.name_files(DEFAULT_TENANT, "ada")).pins == frozenset()


@pytest.mark.parametrize("late", ["registry", "objects"])
@pytest.mark.parametrize("step", ["before share", "after share"])
async def test_a_name_deleted_while_it_is_shared_is_not_shared_later(
    parts: Parts, late: str, step: str
) -> None:
    store = parts.store()
    await publish(store, "ada", make_blob(1))
    delete = once(step, lambda: store.delete(DEFAULT_TENANT, "ada"))
    sharing = parts.store(100, **{late: delete})
    assert await sharing.share(DEFAULT_TENANT, "ada", READER) is None
    await publish(store, "ada", make_blob(2))
    assert await store.shares(DEFAULT_TENANT, "ada") == frozenset()
    assert await store.resolve([replace(ADA, reader=READER)]) == [None]
    assert (await parts.objects.name_files(DEFAULT_TENANT, "ada")).shares == frozenset()


async def test_shares_that_a_broken_delete_left_open_nothing_new(parts: Parts) -> None:
    store = parts.store()
    await publish(store, "ada", make_blob(1))
    await store.share(DEFAULT_TENANT, "ada", READER)
    with pytest.raises(StoreUnavailable):
        await parts.store(registry=failing("before remove", DOWN)).delete(DEFAULT_TENANT, "ada")
    assert await store.shares(DEFAULT_TENANT, "ada") == {READER}
    await publish(store, "ada", make_blob(2))
    assert await store.shares(DEFAULT_TENANT, "ada") == frozenset()
    assert (await parts.objects.name_files(DEFAULT_TENANT, "ada")).shares == frozenset()


async def test_sharing_again_leaves_one_file(parts: Parts) -> None:
    store = parts.store()
    for seed in range(3):
        await publish(store, "ada", make_blob(seed))
        await store.share(DEFAULT_TENANT, "ada", READER)
    files = await parts.objects.name_files(DEFAULT_TENANT, "ada")
    assert files.shares == {(3, READER)}


async def test_what_is_published_resolves_without_the_object_store(parts: Parts) -> None:
    manifest = await publish(parts.store(), "ada", make_blob(1))

    async def down(_: str) -> None:
        raise DOWN

    store = parts.store(objects=down)
    await store.ping()
    assert await store.resolve([ADA]) == [manifest.key]
    assert await store.describe(ADA) == manifest
    for call in (
        store.delete(DEFAULT_TENANT, "ada"),
        store.pin(ADA),
        store.unpin(ADA),
        store.rollback(DEFAULT_TENANT, "ada", None, 1.0),
    ):
        with pytest.raises(StoreUnavailable):
            await call
    assert await store.versions(DEFAULT_TENANT, "ada") == [manifest]
