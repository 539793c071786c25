import asyncio
from glob import glob
from pathlib import Path

import pytest

from adapter_cache.blobs import MemoryBlobs
from adapter_cache.changes import MemoryFeed
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.rebuild import RebuildReport, rebuild
from adapter_cache.registry import MemoryRegistry, Registry
from contracts.adapters import DEFAULT_TENANT, PUBLIC, AdapterManifest, AdapterRef, TenantId
from contracts.errors import StoreUnavailable
from tests.adapter_cache.adapters import make_blob, publish
from tests.adapter_cache.steps import failing, once, watched

ADA = AdapterRef(DEFAULT_TENANT, "ada")
OTHER = TenantId("../other")
Everything = dict[
    tuple[TenantId, str], tuple[list[AdapterManifest], frozenset[int], dict[TenantId, int]]
]


def make_store(registry: Registry, objects: FsspecObjects) -> DurableAdapterStore:
    return DurableAdapterStore(registry, MemoryBlobs(), objects, MemoryFeed(), keep_versions=10)


async def everything(registry: Registry) -> Everything:
    found: Everything = {}
    for tenant in (DEFAULT_TENANT, OTHER):
        for manifest in (await registry.page(tenant, "", 100))[0]:
            name = manifest.key.name
            pins = await registry.pins(tenant, name)
            shares = await registry.shares(tenant, name)
            found[tenant, name] = (await registry.versions(tenant, name), pins, shares)
    return found


async def fill(store: DurableAdapterStore) -> None:
    for number in range(10):
        for seed in range(1 + number % 3):
            await publish(store, f"user-{number}", make_blob(seed), tenant=OTHER)
    await store.pin(AdapterRef(OTHER, "user-2", 2))
    await store.share(OTHER, "user-2", TenantId("acme"))
    await store.share(OTHER, "user-3", PUBLIC)
    for name in ("ada", "gone"):
        await publish(store, name, make_blob(1))
        await store.share(DEFAULT_TENANT, name, OTHER)
    await store.delete(DEFAULT_TENANT, "gone")


async def test_an_emptied_registry_is_filled_as_it_was(objects: FsspecObjects) -> None:
    before, after = MemoryRegistry(), MemoryRegistry()
    await fill(make_store(before, objects))
    told: list[int] = []
    report = await rebuild(objects, after, lambda report: told.append(report.num_names))
    assert await everything(after) == await everything(before)
    assert report == RebuildReport(11, 20, 20, 1, 0)
    assert told == sorted(told)
    assert told[-1] == 11
    again = await rebuild(objects, after)
    assert again == RebuildReport(11, 20, 0, 1, 0)
    assert await everything(after) == await everything(before)


async def test_names_that_the_store_says_are_deleted_go(objects: FsspecObjects) -> None:
    registry, stale = MemoryRegistry(), MemoryRegistry()
    store = make_store(registry, objects)
    for seed in (1, 2):
        manifest = await publish(store, "ada", make_blob(seed))
        await stale.advance(manifest)
        await stale.pin(DEFAULT_TENANT, "ada", manifest.key.version)
    await store.delete(DEFAULT_TENANT, "ada")
    await rebuild(objects, stale)
    assert await everything(stale) == {}
    again = await publish(store, "ada", make_blob(1))
    await rebuild(objects, stale)
    assert await stale.versions(DEFAULT_TENANT, "ada") == [again]
    assert await stale.pins(DEFAULT_TENANT, "ada") == frozenset()


async def test_a_name_deleted_while_it_is_rebuilt_stays_deleted(objects: FsspecObjects) -> None:
    registry = MemoryRegistry()
    store = make_store(registry, objects)
    await publish(store, "ada", make_blob(1))
    await registry.remove(DEFAULT_TENANT, "ada", 9)
    delete = once("before advance", lambda: store.delete(DEFAULT_TENANT, "ada"))
    await rebuild(objects, watched(registry, delete))
    assert await registry.resolve([ADA]) == [None]


async def test_a_pin_set_while_it_is_rebuilt_stays(objects: FsspecObjects) -> None:
    registry = MemoryRegistry()
    store = make_store(registry, objects)
    await publish(store, "ada", make_blob(1))
    # After the listing, before the registry is asked.
    pin = once("before versions", lambda: store.pin(ADA))
    await rebuild(objects, watched(registry, pin))
    assert await registry.pins(DEFAULT_TENANT, "ada") == {1}
    assert await objects.pins(DEFAULT_TENANT, "ada") == {1}


async def test_a_share_set_while_it_is_rebuilt_stays(objects: FsspecObjects) -> None:
    registry = MemoryRegistry()
    store = make_store(registry, objects)
    await publish(store, "ada", make_blob(1))
    share = once("before versions", lambda: store.share(DEFAULT_TENANT, "ada", OTHER))
    await rebuild(objects, watched(registry, share))
    assert await registry.shares(DEFAULT_TENANT, "ada") == {OTHER: 1}


async def test_a_share_taken_back_without_the_registry_is_taken_back_here(
    objects: FsspecObjects,
) -> None:
    registry = MemoryRegistry()
    store = make_store(registry, objects)
    await publish(store, "ada", make_blob(1))
    await store.share(DEFAULT_TENANT, "ada", OTHER)
    breaks = failing("before unshare", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await make_store(watched(registry, breaks), objects).unshare(DEFAULT_TENANT, "ada", OTHER)
    assert await registry.shares(DEFAULT_TENANT, "ada") == {OTHER: 1}
    await rebuild(objects, registry)
    assert await registry.shares(DEFAULT_TENANT, "ada") == {}


async def test_publishers_at_work_are_not_disturbed(objects: FsspecObjects) -> None:
    registry = MemoryRegistry()
    store = make_store(registry, objects)
    names = [f"user-{number}" for number in range(8)]

    async def work(name: str) -> None:
        for seed in range(6):
            await publish(store, name, make_blob(seed))
            if seed == 3:
                await store.delete(DEFAULT_TENANT, name)

    async def rebuild_often() -> None:
        for _ in range(6):
            await rebuild(objects, registry)

    await asyncio.gather(rebuild_often(), *map(work, names))
    after = MemoryRegistry()
    await rebuild(objects, after)
    assert await everything(after) == await everything(registry)
    kept = await registry.versions(DEFAULT_TENANT, names[0])
    assert [manifest.key.version for manifest in kept] == [6, 7]


async def test_damaged_entries_are_counted_and_passed_over(
    objects: FsspecObjects, tmp_path: Path
) -> None:
    store, after = make_store(MemoryRegistry(), objects), MemoryRegistry()
    manifests = [await publish(store, "ada", make_blob(seed)) for seed in (1, 2)]
    [path] = glob(f"{tmp_path}/objects/names/*/default/ada/0000000001.json")
    await asyncio.to_thread(Path(path).write_bytes, b"")
    report = await rebuild(objects, after)
    assert (report.num_versions, report.num_damaged) == (1, 1)
    assert await after.versions(DEFAULT_TENANT, "ada") == manifests[1:]


@pytest.mark.parametrize("step", ["advance", "versions"])
async def test_an_outage_ends_it_and_it_can_be_repeated(objects: FsspecObjects, step: str) -> None:
    before, after = MemoryRegistry(), MemoryRegistry()
    await fill(make_store(before, objects))
    down = failing(f"after {step}", StoreUnavailable("down"))
    with pytest.raises(StoreUnavailable):
        await rebuild(objects, watched(after, down))
    await rebuild(objects, after)
    assert await everything(after) == await everything(before)
