"""Sharing: one contract for every store, and what memory makes of it in an outage."""

from dataclasses import replace

import pytest

from adapter_cache.registry import MemoryRegistry
from adapter_cache.remembering_registry import RememberingRegistry
from adapter_cache.store import AdapterStore
from contracts.adapters import DEFAULT_TENANT, PUBLIC, AdapterRef, TenantId
from contracts.errors import InvalidRequest, StoreUnavailable
from tests.adapter_cache.adapters import make_blob, publish
from tests.adapter_cache.manifests import make_manifest
from tests.adapter_cache.steps import watched

OTHER = TenantId("other")


async def test_a_shared_adapter_is_read_by_whom_it_is_shared_with(store: AdapterStore) -> None:
    first, second = [await publish(store, "ada", make_blob(seed)) for seed in (1, 2)]
    theirs = AdapterRef(DEFAULT_TENANT, "ada", None, OTHER)
    old, eves = replace(theirs, version=1), replace(theirs, reader=TenantId("eve"))
    assert await store.resolve([theirs, old, eves]) == [None, None, None]
    for _ in range(2):
        assert await store.share(DEFAULT_TENANT, "ada", OTHER) == second
    assert await store.shares(DEFAULT_TENANT, "ada") == {OTHER}
    assert await store.resolve([theirs, old, eves]) == [second.key, first.key, None]
    assert await store.describe(theirs) == second
    assert await store.describe(eves) is None
    assert await store.share(DEFAULT_TENANT, "ada", PUBLIC) == second
    for _ in range(2):
        assert await store.unshare(DEFAULT_TENANT, "ada", OTHER) == second
    assert await store.shares(DEFAULT_TENANT, "ada") == {PUBLIC}
    assert await store.resolve([theirs, eves]) == [second.key, second.key]
    await store.unshare(DEFAULT_TENANT, "ada", PUBLIC)
    assert await store.resolve([theirs, eves]) == [None, None]


async def test_a_share_lasts_until_the_name_is_deleted(store: AdapterStore) -> None:
    await publish(store, "ada", make_blob(1))
    await store.share(DEFAULT_TENANT, "ada", OTHER)
    theirs = AdapterRef(DEFAULT_TENANT, "ada", None, OTHER)
    second = await publish(store, "ada", make_blob(2))
    assert await store.resolve([theirs]) == [second.key]
    await store.delete(DEFAULT_TENANT, "ada")
    assert await store.resolve([theirs]) == [None]
    await publish(store, "ada", make_blob(3))
    assert await store.resolve([theirs]) == [None]
    assert await store.shares(DEFAULT_TENANT, "ada") == frozenset()


async def test_only_what_there_is_can_be_shared(store: AdapterStore) -> None:
    for name in ("ada", "a b"):
        assert await store.share(DEFAULT_TENANT, name, OTHER) is None
        assert await store.unshare(DEFAULT_TENANT, name, OTHER) is None
        assert await store.shares(DEFAULT_TENANT, name) == frozenset()
    await publish(store, "ada", make_blob(1))
    assert await store.resolve([AdapterRef(DEFAULT_TENANT, "ada", None, OTHER)]) == [None]


async def test_the_readers_of_an_adapter_are_bounded(
    store: AdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapter_cache.store.MAX_SHARES", 2)
    await publish(store, "ada", make_blob(1))
    for reader in ("a", "b", "a"):
        await store.share(DEFAULT_TENANT, "ada", TenantId(reader))
    with pytest.raises(InvalidRequest, match="at most 2"):
        await store.share(DEFAULT_TENANT, "ada", TenantId("c"))
    assert await store.shares(DEFAULT_TENANT, "ada") == {"a", "b"}


async def test_an_unshared_adapter_is_forgotten_at_once_and_in_an_outage_in_time() -> None:
    registry, now_s = MemoryRegistry(), [100.0]
    await registry.advance(make_manifest(1, "a"))
    await registry.share(DEFAULT_TENANT, "a", TenantId("acme"), 1)
    theirs, eves = (
        AdapterRef(DEFAULT_TENANT, "a", None, TenantId(reader)) for reader in ("acme", "eve")
    )
    down = False

    async def fail(_: str) -> None:
        if down:
            raise StoreUnavailable("down")

    names = RememberingRegistry(
        watched(registry, fail), max_age_s=60, timeout_s=5, pause_s=1, clock=lambda: now_s[0]
    )
    key = make_manifest(1, "a").key
    assert await names.resolve([theirs, eves]) == [key, None]
    down = True
    await registry.unshare(DEFAULT_TENANT, "a", TenantId("acme"))
    answer = await names.resolve([theirs, eves])
    assert answer[0] == key
    # What one reader may use is remembered for that reader alone.
    assert isinstance(answer[1], StoreUnavailable)
    now_s[0] += 60
    with pytest.raises(StoreUnavailable):
        await names.resolve([theirs])
    down = False
    now_s[0] += 1
    assert await names.resolve([theirs]) == [None]
    await registry.share(DEFAULT_TENANT, "a", TenantId("acme"), 1)
    assert await names.resolve([theirs]) == [key]
    await registry.unshare(DEFAULT_TENANT, "a", TenantId("acme"))
    assert await names.resolve([theirs]) == [None]
    await names.close()
