import asyncio
import time
from dataclasses import replace
from glob import glob
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.blobs import MemoryBlobs
from adapter_cache.changes import MemoryFeed
from adapter_cache.collector import CollectReport, collect, is_garbage, plan_name
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects, NameFiles, StoredBlob
from adapter_cache.registry import MemoryRegistry
from adapter_cache.version_entry import VersionEntry, live_versions
from contracts.adapters import DEFAULT_TENANT, AdapterManifest, AdapterRef, Digest, TenantId
from contracts.errors import StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob, make_key, publish
from tests.adapter_cache.steps import failing, once, watched

ADA = AdapterRef(DEFAULT_TENANT, "ada")
GRACE_S = 3600.0
DOWN = StoreUnavailable("down")
NUMBERS = st.sets(st.integers(1, 12))


class Site:
    """A store over a folder, and a clock that tests move on."""

    def __init__(self, objects: FsspecObjects) -> None:
        self.objects = objects
        self.registry = MemoryRegistry()
        self.store = self.make_store()
        self.now_s = time.time()

    def make_store(self, **replaced: Any) -> DurableAdapterStore:
        objects, registry = (
            replaced.get("objects", self.objects),
            replaced.get("registry", self.registry),
        )
        return DurableAdapterStore(registry, MemoryBlobs(), objects, MemoryFeed(), keep_versions=2)

    def wait_out_the_grace(self) -> None:
        self.now_s = time.time() + GRACE_S + 60

    async def collect(self, **options: Any) -> CollectReport:
        objects = options.pop("objects", self.objects)
        options = {"keep_versions": 2, "grace_s": GRACE_S, "now_s": self.now_s, **options}
        return await collect(objects, self.registry, **options)

    async def seeds(self) -> set[int]:
        """Which of the test's blobs are stored."""
        known = {digest_of(make_blob(seed)): seed for seed in range(20)}
        return {known[blob.digest] async for blob in self.objects.blobs()}


@pytest.fixture
def site(objects: FsspecObjects) -> Site:
    return Site(objects)


@given(NUMBERS, NUMBERS, NUMBERS, st.dictionaries(st.integers(1, 12), st.booleans()))
def test_a_plan_takes_only_what_is_old_and_superseded(
    numbers: set[int], tombstones: set[int], pins: set[int], young: dict[int, bool]
) -> None:
    manifest = AdapterManifest(make_key(make_blob(1)), "base", 1, 2, 3.0)
    entries = [
        VersionEntry(number, None)
        if number in tombstones
        else VersionEntry(
            number,
            replace(
                manifest,
                key=replace(manifest.key, version=number, digest=digest_of(make_blob(number))),
            ),
        )
        for number in sorted(numbers)
    ]
    written = {number: 200.0 if young.get(number) else 0.0 for number in numbers}
    files = NameFiles(DEFAULT_TENANT, "ada", written, frozenset(pins))
    plan = plan_name(files, entries, keep_versions=2, before_s=100.0)
    live = {each.key.version for each in live_versions(entries)}
    newest = set(sorted(numbers)[-2:])
    ended = max(numbers & tombstones, default=0)
    for number in plan.remove & numbers:
        superseded = number < ended and not young.get(ended)
        assert superseded or (number not in newest | pins and not young.get(number))
    assert plan.forget <= plan.remove
    assert not plan.remove & live & pins
    assert plan.keep == {digest_of(make_blob(number)) for number in live}


def test_shares_that_an_old_delete_ended_go() -> None:
    manifest = AdapterManifest(replace(make_key(make_blob(1)), version=4), "base", 1, 2, 3.0)
    entries = [VersionEntry(3, None), VersionEntry(4, manifest)]
    reader = TenantId("acme")
    shares = frozenset({(2, reader), (4, reader)})
    files = NameFiles(DEFAULT_TENANT, "ada", {3: 0.0, 4: 0.0}, frozenset(), shares)
    assert plan_name(files, entries, keep_versions=9, before_s=1.0).unshare == {(2, reader)}
    assert plan_name(files, entries, keep_versions=9, before_s=0.0).unshare == frozenset()


async def test_a_share_that_outlived_its_adapter_is_removed(site: Site) -> None:
    await publish(site.store, "ada", make_blob(1))
    await site.store.delete(DEFAULT_TENANT, "ada")
    await site.objects.share(DEFAULT_TENANT, "ada", 1, TenantId("acme"))
    site.wait_out_the_grace()
    await site.collect(dry_run=True)
    assert (await site.objects.name_files(DEFAULT_TENANT, "ada")).shares
    await site.collect()
    assert not (await site.objects.name_files(DEFAULT_TENANT, "ada")).shares


def test_a_blob_is_garbage_when_it_is_old_and_unnamed() -> None:
    digest = digest_of(b"")
    old, young = StoredBlob(digest, 99.0, 1), StoredBlob(digest, 100.0, 1)
    assert is_garbage(old, set(), before_s=100.0)
    assert not is_garbage(young, set(), before_s=100.0)
    assert not is_garbage(old, {bytes.fromhex(digest)}, before_s=100.0)


async def test_what_a_delete_left_goes_after_the_grace_period(site: Site) -> None:
    await publish(site.store, "ada", make_blob(1))
    await publish(site.store, "ada", make_blob(2))
    await publish(site.store, "bob", make_blob(2))
    await site.store.delete(DEFAULT_TENANT, "ada")
    assert (await site.collect()).num_removed_blobs == 0
    site.wait_out_the_grace()
    counted = await site.collect(dry_run=True)
    assert await site.seeds() == {1, 2}
    report = await site.collect()
    assert report == counted == CollectReport(2, 0, 0, 0, 2, 1, 100, 0)
    assert await site.seeds() == {2}
    assert (await site.collect()).num_removed_blobs == 0


async def test_bytes_of_pruned_versions_go(site: Site) -> None:
    for seed in range(5):
        await publish(site.store, "ada", make_blob(seed))
        if seed == 1:
            await site.store.pin(ADA)
    site.wait_out_the_grace()
    report = await site.collect()
    assert (report.num_removed_entries, report.num_removed_blobs) == (0, 2)
    assert await site.seeds() == {1, 3, 4}


async def test_a_publish_that_broke_off_before_its_entry_leaves_a_blob(site: Site) -> None:
    first = await publish(site.store, "ada", make_blob(1))
    broken = site.make_store(objects=watched(site.objects, failing("before create_entry", DOWN)))
    with pytest.raises(StoreUnavailable):
        await publish(broken, "ada", make_blob(2))
    site.wait_out_the_grace()
    assert (await site.collect()).num_removed_blobs == 1
    assert await site.store.resolve([ADA]) == [first.key]
    assert (await publish(site.store, "ada", make_blob(2))).key.version == 2
    assert await site.seeds() == {1, 2}


async def test_a_publish_that_broke_off_after_its_entry_is_finished(site: Site) -> None:
    await publish(site.store, "ada", make_blob(1))
    broken = site.make_store(registry=watched(site.registry, failing("before advance", DOWN)))
    with pytest.raises(StoreUnavailable):
        await publish(broken, "ada", make_blob(2))
    assert (await site.collect()).num_recorded == 0
    site.wait_out_the_grace()
    assert (await site.collect()).num_recorded == 1
    [key] = await site.store.resolve([ADA])
    assert key is not None
    assert (key.version, await site.seeds()) == (2, {1, 2})


async def test_an_emptied_registry_costs_nothing(site: Site) -> None:
    await publish(site.store, "ada", make_blob(1))
    kept = [await publish(site.store, "ada", make_blob(seed)) for seed in (2, 3)]
    site.registry = MemoryRegistry()
    site.wait_out_the_grace()
    report = await site.collect()
    assert (report.num_removed_entries, report.num_recorded) == (0, 2)
    assert await site.registry.versions(DEFAULT_TENANT, "ada") == kept
    assert await site.seeds() == {2, 3}


async def test_pruning_and_deleting_that_broke_off_are_finished(site: Site) -> None:
    stuck = failing("before remove_entries", DOWN)
    broken = site.make_store(objects=watched(site.objects, stuck))
    for seed in range(4):
        await publish(broken, "ada", make_blob(seed))
    await publish(broken, "bob", make_blob(1))
    await broken.delete(DEFAULT_TENANT, "bob")
    assert len((await site.objects.name_files(DEFAULT_TENANT, "ada")).entries) == 4
    assert (await site.collect()).num_removed_entries == 0
    site.wait_out_the_grace()
    assert (await site.collect()).num_removed_entries == 3
    assert set((await site.objects.name_files(DEFAULT_TENANT, "ada")).entries) == {3, 4}
    assert set((await site.objects.name_files(DEFAULT_TENANT, "bob")).entries) == {2}
    # Bytes of versions that were still there when the collection began go with the next.
    await site.collect()
    assert await site.seeds() == {2, 3}


async def test_pins_of_nothing_go(site: Site) -> None:
    await publish(site.store, "ada", make_blob(1))
    await site.objects.pin(DEFAULT_TENANT, "ada", 7)
    await site.collect()
    assert await site.objects.pins(DEFAULT_TENANT, "ada") == frozenset()


async def test_a_damaged_entry_keeps_every_blob(site: Site, tmp_path: Path) -> None:
    await publish(site.store, "ada", make_blob(1))
    await site.objects.put_blob(digest_of(make_blob(2)), make_blob(2))
    [path] = glob(f"{tmp_path}/objects/names/*/default/ada/0000000001.json")
    await asyncio.to_thread(Path(path).write_bytes, b"")
    site.wait_out_the_grace()
    report = await site.collect()
    assert (report.num_damaged, report.num_removed_blobs) == (1, 0)
    assert await site.seeds() == {1, 2}


async def test_temporary_files_of_the_dead_go(site: Site, tmp_path: Path) -> None:
    await publish(site.store, "ada", make_blob(1))
    (tmp_path / "objects" / "incoming" / "tmp-of-a-writer").write_bytes(b"half")
    assert (await site.collect()).num_removed_leftovers == 0
    site.wait_out_the_grace()
    assert (await site.collect(dry_run=True)).num_removed_leftovers == 1
    assert (await site.collect()).num_removed_leftovers == 1
    assert await site.objects.leftovers() == []


async def test_a_blob_put_again_before_it_is_deleted_stays(site: Site) -> None:
    digest = digest_of(make_blob(1))
    await site.objects.put_blob(digest, make_blob(1))
    site.wait_out_the_grace()
    ask = StoredBlobAge(site.objects, site.now_s)
    report = await site.collect(objects=watched(ask, once("never", ask.close)))
    assert (report.num_removed_blobs, await site.seeds()) == (0, {1})


class StoredBlobAge(FsspecObjects):
    """The same objects, whose blobs turn out to have been put just now when asked one by one."""

    def __init__(self, objects: FsspecObjects, put_at_s: float) -> None:
        self.__dict__.update(objects.__dict__)
        self._put_at_s = put_at_s

    async def blob_modified_at_s(self, digest: Digest) -> float | None:
        return self._put_at_s


async def test_a_collection_beside_publishers_takes_nothing_of_theirs(site: Site) -> None:
    """Publishers use blobs that have been garbage for long, while the collector works."""
    for seed in range(20):
        await site.objects.put_blob(digest_of(make_blob(seed)), make_blob(seed))
    # What was put before now is old, what is put from now on is young.
    await asyncio.sleep(0.02)
    site.now_s = time.time() + GRACE_S

    async def publish_some(name: str) -> None:
        for seed in range(0, 20, 2):
            await publish(site.store, name, make_blob(seed))

    names = [f"user-{number}" for number in range(4)]
    collections = asyncio.gather(*(site.collect() for _ in range(3)))
    await asyncio.gather(collections, *map(publish_some, names))
    for name in names:
        for manifest in await site.store.versions(DEFAULT_TENANT, name):
            assert await site.objects.has_blob(manifest.key.digest)
    site.wait_out_the_grace()
    await site.collect()
    assert await site.seeds() == {16, 18}


async def test_progress_is_told_and_an_outage_ends_it(site: Site) -> None:
    for number in range(6):
        await publish(site.store, f"user-{number}", make_blob(number))
    told: list[int] = []
    await site.collect(progress=lambda report: told.append(report.num_names))
    assert (told == sorted(told), told[-1]) == (True, 6)
    with pytest.raises(StoreUnavailable):
        await site.collect(objects=watched(site.objects, failing("before read_entry", DOWN)))
