"""The contract of AdapterStore, kept by the fake and by the real store alike.

The fixtures keep a hundred versions, so that only what tests pruning is pruned.
"""

import asyncio
from dataclasses import replace

import pytest

from adapter_cache.blobs import BlobTier
from adapter_cache.store import AdapterStore
from contracts.adapters import DEFAULT_TENANT, AdapterRef, Digest, TenantId
from contracts.errors import AdapterCorrupt, InvalidAdapter, InvalidRequest
from tests.adapter_cache.adapters import digest_of, make_blob, publish

OTHER = TenantId("other")
ADA = AdapterRef(DEFAULT_TENANT, "ada")


async def test_a_published_adapter_is_found_in_full(store: AdapterStore, blobs: BlobTier) -> None:
    blob = make_blob(1)
    manifest = await publish(store, "ada", blob)
    key = manifest.key
    assert (key.tenant, key.name, key.version) == (DEFAULT_TENANT, "ada", 1)
    assert (key.digest, key.size_bytes) == (digest_of(blob), len(blob))
    assert (manifest.rank, manifest.num_modules) == (4, 120)
    assert (manifest.base_fingerprint, manifest.created_at_s) == ("sha256:base", 1_700_000_000.125)
    ref = AdapterRef(DEFAULT_TENANT, "ada")
    assert await store.describe(ref) == manifest
    assert await store.resolve([ref]) == [key]
    assert await blobs.get(key.digest) == blob


async def test_publishing_the_current_digest_again_changes_nothing(store: AdapterStore) -> None:
    first = await publish(store, "ada", make_blob(1), created_at_s=1.0)
    again = await publish(store, "ada", make_blob(1), created_at_s=2.0)
    assert again == first
    assert await store.versions(DEFAULT_TENANT, "ada") == [first]


async def test_versions_stay_and_the_pointer_is_the_last(store: AdapterStore) -> None:
    blobs = [make_blob(1), make_blob(2), make_blob(1)]
    published = [await publish(store, "ada", blob) for blob in blobs]
    assert [manifest.key.version for manifest in published] == [1, 2, 3]
    assert await store.versions(DEFAULT_TENANT, "ada") == published
    refs = [AdapterRef(DEFAULT_TENANT, "ada", version) for version in (None, 3, 2, 1, 4, 0)]
    keys = [manifest.key for manifest in published]
    assert await store.resolve(refs) == [keys[2], keys[2], keys[1], keys[0], None, None]
    assert await store.describe(refs[2]) == published[1]


async def test_resolve_keeps_order_across_tenants_duplicates_and_gaps(store: AdapterStore) -> None:
    mine = await publish(store, "ada", make_blob(1))
    theirs = await publish(store, "ada", make_blob(2), tenant=OTHER)
    names = [(OTHER, "ada"), (DEFAULT_TENANT, "ada"), (DEFAULT_TENANT, "no"), (OTHER, "ada")]
    found = await store.resolve([AdapterRef(tenant, name) for tenant, name in names])
    assert found == [theirs.key, mine.key, None, theirs.key]
    assert await store.resolve([]) == []


async def test_a_tenant_does_not_see_anothers_adapter(store: AdapterStore) -> None:
    await publish(store, "ada", make_blob(1))
    assert await store.resolve([AdapterRef(OTHER, "ada")]) == [None]
    assert await store.versions(OTHER, "ada") == []
    assert await store.page(OTHER, "", 10) == ([], "")
    assert await store.delete(OTHER, "ada") is False


@pytest.mark.parametrize("name", ["", "a@1", "../a", "a b", "x" * 97, "a\n", "-a", "ä"])
async def test_a_name_out_of_form_is_neither_taken_nor_found(
    store: AdapterStore, name: str
) -> None:
    await publish(store, "a", make_blob(1))
    await publish(store, "a", make_blob(2))
    with pytest.raises(InvalidAdapter) as caught:
        await publish(store, name, make_blob(1))
    assert caught.value.param == "name"
    assert await store.resolve([AdapterRef(DEFAULT_TENANT, name)]) == [None]
    assert await store.versions(DEFAULT_TENANT, name) == []
    assert await store.delete(DEFAULT_TENANT, name) is False


@pytest.mark.parametrize("digest", ["0" * 64, "../../etc/passwd", ""])
async def test_a_wrong_digest_publishes_nothing(
    store: AdapterStore, blobs: BlobTier, digest: str
) -> None:
    with pytest.raises(AdapterCorrupt):
        await store.publish(
            DEFAULT_TENANT,
            "ada",
            b"bytes",
            digest=Digest(digest),
            base_fingerprint="base",
            rank=1,
            num_modules=1,
            created_at_s=0.0,
        )
    assert await store.resolve([AdapterRef(DEFAULT_TENANT, "ada")]) == [None]
    assert await blobs.get(Digest(digest)) is None


async def test_racing_publishes_get_versions_of_their_own(store: AdapterStore) -> None:
    blobs = [make_blob(seed) for seed in range(20)]
    raced = await asyncio.gather(*(publish(store, "ada", blob) for blob in blobs))
    assert sorted(manifest.key.version for manifest in raced) == list(range(1, 21))
    last = max(raced, key=lambda manifest: manifest.key.version)
    assert await store.resolve([AdapterRef(DEFAULT_TENANT, "ada")]) == [last.key]
    by_version = sorted(raced, key=lambda manifest: manifest.key.version)
    assert await store.versions(DEFAULT_TENANT, "ada") == by_version


async def test_racing_publishes_of_one_digest_make_one_version(
    store: AdapterStore, blobs: BlobTier
) -> None:
    raced = await asyncio.gather(*(publish(store, "ada", make_blob(1)) for _ in range(20)))
    assert set(raced) == {raced[0]}
    assert await blobs.get(raced[0].key.digest) == make_blob(1)
    assert await store.versions(DEFAULT_TENANT, "ada") == [raced[0]]


async def test_pages_walk_all_names_in_order(store: AdapterStore) -> None:
    names = [f"user-{number:03d}" for number in range(25)]
    for name in reversed(names):
        await publish(store, name, make_blob(1))
    await publish(store, "user-003", make_blob(2))
    seen, cursor, num_pages = [], "", 0
    while True:
        page, cursor = await store.page(DEFAULT_TENANT, cursor, 10)
        seen += page
        num_pages += 1
        if not cursor:
            break
    assert [manifest.key.name for manifest in seen] == names
    assert (num_pages, seen[3].key.version) == (3, 2)


async def test_a_full_last_page_ends_the_walk(store: AdapterStore) -> None:
    for name in ("a", "b"):
        await publish(store, name, make_blob(1))
    page, cursor = await store.page(DEFAULT_TENANT, "", 2)
    assert ([manifest.key.name for manifest in page], cursor) == (["a", "b"], "")
    with pytest.raises(InvalidRequest) as caught:
        await store.page(DEFAULT_TENANT, "", 0)
    assert caught.value.param == "limit"


async def test_a_page_survives_the_deletion_of_its_cursor(store: AdapterStore) -> None:
    for name in ("a", "b", "c"):
        await publish(store, name, make_blob(1))
    _, cursor = await store.page(DEFAULT_TENANT, "", 2)
    await store.delete(DEFAULT_TENANT, cursor)
    page, _ = await store.page(DEFAULT_TENANT, cursor, 2)
    assert [manifest.key.name for manifest in page] == ["c"]


async def test_delete_forgets_every_version_and_numbers_go_on(store: AdapterStore) -> None:
    for seed in (1, 2):
        await publish(store, "ada", make_blob(seed))
    await store.pin(ADA)
    assert await store.delete(DEFAULT_TENANT, "ada") is True
    assert await store.delete(DEFAULT_TENANT, "ada") is False
    refs = [AdapterRef(DEFAULT_TENANT, "ada", version) for version in (None, 1, 2, 3)]
    assert await store.resolve(refs) == [None] * 4
    assert await store.page(DEFAULT_TENANT, "", 10) == ([], "")
    assert await store.pins(DEFAULT_TENANT, "ada") == frozenset()
    assert await store.rollback(DEFAULT_TENANT, "ada", None, 3.0) is None
    again = await publish(store, "ada", make_blob(2))
    assert again.key.version > 2
    assert await store.versions(DEFAULT_TENANT, "ada") == [again]


async def test_bytes_outlive_their_names(store: AdapterStore, blobs: BlobTier) -> None:
    blob = make_blob(1)
    for name in ("ada", "bob"):
        await publish(store, name, blob)
        await store.delete(DEFAULT_TENANT, name)
    assert await blobs.get(digest_of(blob)) == blob


async def test_publish_racing_delete_never_leaves_a_name_without_bytes(
    store: AdapterStore, blobs: BlobTier
) -> None:
    blob = make_blob(1)
    for _ in range(30):
        await asyncio.gather(
            publish(store, "ada", blob),
            store.delete(DEFAULT_TENANT, "ada"),
            publish(store, "ada", blob),
            store.delete(DEFAULT_TENANT, "ada"),
        )
        [key] = await store.resolve([ADA])
        assert key is None or await blobs.get(key.digest) == blob
        assert (await store.describe(ADA) is None) is (key is None)


async def test_rollback_is_a_new_version_of_older_bytes(store: AdapterStore) -> None:
    first, second, third = [await publish(store, "ada", make_blob(seed)) for seed in (1, 2, 3)]
    back = await store.rollback(DEFAULT_TENANT, "ada", 1, 9.0)
    assert back is not None
    assert back == replace(first, key=replace(first.key, version=4), created_at_s=9.0)
    assert await store.resolve([ADA]) == [back.key]
    assert await store.versions(DEFAULT_TENANT, "ada") == [first, second, third, back]
    before = await store.rollback(DEFAULT_TENANT, "ada", None, 10.0)
    assert before is not None
    assert (before.key.version, before.key.digest) == (5, third.key.digest)


async def test_rollback_to_what_is_current_changes_nothing(store: AdapterStore) -> None:
    only = await publish(store, "ada", make_blob(1))
    assert await store.rollback(DEFAULT_TENANT, "ada", 1, 9.0) == only
    assert await store.rollback(DEFAULT_TENANT, "ada", None, 9.0) is None
    assert await store.rollback(DEFAULT_TENANT, "ada", 2, 9.0) is None
    assert await store.rollback(DEFAULT_TENANT, "no", None, 9.0) is None
    assert await store.rollback(DEFAULT_TENANT, "a@1", None, 9.0) is None
    assert await store.versions(DEFAULT_TENANT, "ada") == [only]


async def test_a_pin_is_kept_with_its_version(store: AdapterStore) -> None:
    first, second = [await publish(store, "ada", make_blob(seed)) for seed in (1, 2)]
    assert await store.pin(AdapterRef(DEFAULT_TENANT, "ada", 1)) == first
    assert await store.pin(ADA) == await store.pin(ADA) == second
    assert await store.pins(DEFAULT_TENANT, "ada") == {1, 2}
    assert await store.unpin(AdapterRef(DEFAULT_TENANT, "ada", 1)) == first
    assert await store.unpin(AdapterRef(DEFAULT_TENANT, "ada", 1)) == first
    assert await store.pins(DEFAULT_TENANT, "ada") == {2}


@pytest.mark.parametrize("ref", [(DEFAULT_TENANT, "ada", 7), (OTHER, "ada", None)])
async def test_what_is_not_there_is_neither_pinned_nor_fetched_ahead(
    store: AdapterStore, ref: tuple[TenantId, str, int | None]
) -> None:
    await publish(store, "ada", make_blob(1))
    for call in (store.pin, store.unpin, store.prefetch):
        assert await call(AdapterRef(*ref)) is None
    assert await store.pins(ref[0], ref[1]) == frozenset()


async def test_old_versions_are_pruned_but_not_pinned_ones(store: AdapterStore) -> None:
    for seed in range(101):
        await publish(store, "ada", make_blob(seed))
        if seed == 1:
            await store.pin(ADA)
    assert [each.key.version for each in await store.versions(DEFAULT_TENANT, "ada")] == [
        *range(2, 102)
    ]
    await publish(store, "ada", make_blob(101))
    await publish(store, "ada", make_blob(102))
    assert [each.key.version for each in await store.versions(DEFAULT_TENANT, "ada")] == [
        2,
        *range(4, 104),
    ]
    assert await store.resolve([AdapterRef(DEFAULT_TENANT, "ada", 3)]) == [None]
    assert await store.rollback(DEFAULT_TENANT, "ada", 3, 9.0) is None


async def test_prefetch_tells_what_it_brought(store: AdapterStore) -> None:
    manifest = await publish(store, "ada", make_blob(1))
    assert await store.prefetch(ADA) == manifest


async def test_ping_and_repr(store: AdapterStore) -> None:
    await store.ping()
    assert "\n" not in repr(store)
