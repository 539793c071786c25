"""One contract for every registry: the fake, Valkey, Redis and a cluster."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.registry import MemoryRegistry, Registry
from contracts.adapters import DEFAULT_TENANT, PUBLIC, AdapterRef, TenantId
from contracts.errors import InvalidRequest
from tests.adapter_cache.manifests import advance, make_manifest
from tests.adapter_cache.servers import SERVERS

OTHER = TenantId("other")
_EXAMPLES = itertools.count()


@pytest.fixture(params=["memory", *SERVERS])
async def registry(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Registry]:
    if request.param == "memory":
        yield MemoryRegistry()
        return
    clients = RedisClients.connect(request.getfixturevalue(f"{request.param}_url"))
    kept = RedisRegistry(clients, prefix)
    yield kept
    await kept.close()


def ref(version: int | None = None, name: str = "ada") -> AdapterRef:
    return AdapterRef(DEFAULT_TENANT, name, version)


async def test_the_highest_version_is_current_in_whatever_order_they_come(
    registry: Registry,
) -> None:
    first, second, third = (make_manifest(version) for version in (1, 2, 3))
    assert await registry.advance(second) is None
    assert await registry.advance(third) == second.key
    assert await registry.advance(first) == third.key
    assert await registry.describe(ref()) == third
    assert await registry.versions(DEFAULT_TENANT, "ada") == [first, second, third]


async def test_advancing_again_changes_nothing(registry: Registry) -> None:
    manifests = [make_manifest(version) for version in (1, 2)]
    await advance(registry, *manifests, *manifests)
    assert await registry.advance(manifests[1]) == manifests[1].key
    assert await registry.versions(DEFAULT_TENANT, "ada") == manifests
    assert await registry.page(DEFAULT_TENANT, "", 10) == ([manifests[1]], "")


async def test_resolve_answers_in_order_for_names_versions_and_tenants(registry: Registry) -> None:
    first, second = make_manifest(1), make_manifest(2)
    theirs = make_manifest(7, tenant=OTHER)
    await advance(registry, first, second, theirs, make_manifest(1, "bob"))
    refs = [ref(2), ref(), AdapterRef(OTHER, "ada"), ref(1), ref(3), ref(name="eve"), ref()]
    keys = [second.key, second.key, theirs.key, first.key, None, None, second.key]
    assert await registry.resolve(refs) == keys
    assert await registry.resolve([]) == []


@pytest.mark.parametrize("name", ["", "ada@1", "a/b", "../x", "names", "ada:1", "é"])
async def test_what_is_no_name_is_not_found(registry: Registry, name: str) -> None:
    await advance(registry, make_manifest(1), make_manifest(2))
    assert await registry.resolve([ref(name=name), ref(1, name)]) == [None, None]
    assert await registry.describe(ref(name=name)) is None
    assert await registry.versions(DEFAULT_TENANT, name) == []
    assert await registry.remove(DEFAULT_TENANT, name, 9) == []


@pytest.mark.parametrize("tenant", ["a:b", "{a}", "}", "a b\n", "ü", "a}:adapter:{b", "*"])
async def test_any_tenant_is_apart_from_others(registry: Registry, tenant: str) -> None:
    mine, ours = make_manifest(1, tenant=TenantId(tenant)), make_manifest(2)
    await advance(registry, mine, ours)
    assert await registry.page(TenantId(tenant), "", 9) == ([mine], "")
    assert await registry.remove(TenantId(tenant), "ada", 9) == [mine]
    assert await registry.resolve([ref(), AdapterRef(TenantId(tenant), "ada")]) == [ours.key, None]


async def test_pages_show_each_current_version_once_in_order(registry: Registry) -> None:
    names = ["B", "a", "a-1", "a.b", "b", "c0", "c00"]
    shown = [make_manifest(2, name) for name in names]
    await advance(registry, *reversed(shown), *(make_manifest(1, name) for name in names))
    await advance(registry, make_manifest(1, "other", tenant=OTHER))
    found, cursor = await registry.page(DEFAULT_TENANT, "", 3)
    assert cursor == "a-1"
    await registry.remove(DEFAULT_TENANT, "a-1", 2)
    while cursor:
        page, cursor = await registry.page(DEFAULT_TENANT, cursor, 3)
        found += page
    assert found == shown
    with pytest.raises(InvalidRequest):
        await registry.page(DEFAULT_TENANT, "", 0)


async def test_forget_drops_older_versions_and_never_the_current_one(registry: Registry) -> None:
    manifests = [make_manifest(version) for version in range(1, 5)]
    await advance(registry, *manifests)
    await registry.forget(DEFAULT_TENANT, "ada", [1, 3, 4, 9])
    await registry.forget(DEFAULT_TENANT, "ada", [])
    await registry.forget(DEFAULT_TENANT, "eve", [1])
    assert await registry.versions(DEFAULT_TENANT, "ada") == [manifests[1], manifests[3]]
    assert await registry.resolve([ref(1), ref(4)]) == [None, manifests[3].key]


async def test_remove_takes_all_versions_and_their_pins(registry: Registry) -> None:
    manifests = [make_manifest(version) for version in (1, 2, 30)]
    await advance(registry, *manifests, make_manifest(1, "bob"))
    await registry.pin(DEFAULT_TENANT, "ada", 2)
    assert await registry.remove(DEFAULT_TENANT, "ada", 30) == manifests
    assert await registry.remove(DEFAULT_TENANT, "ada", 30) == []
    assert await registry.resolve([ref(), ref(2)]) == [None, None]
    assert await registry.pins(DEFAULT_TENANT, "ada") == frozenset()
    assert await registry.page(DEFAULT_TENANT, "", 9) == ([make_manifest(1, "bob")], "")


async def test_remove_leaves_a_version_that_is_newer_than_the_removal(registry: Registry) -> None:
    manifests = [make_manifest(version) for version in (1, 2, 3)]
    await advance(registry, *manifests)
    for version in (1, 3):
        await registry.pin(DEFAULT_TENANT, "ada", version)
    assert await registry.remove(DEFAULT_TENANT, "ada", 2) == manifests[:2]
    assert await registry.versions(DEFAULT_TENANT, "ada") == manifests[2:]
    assert await registry.pins(DEFAULT_TENANT, "ada") == {3}


async def test_pins_are_marks(registry: Registry) -> None:
    await advance(registry, make_manifest(1))
    for version in (1, 2, 2):
        await registry.pin(DEFAULT_TENANT, "ada", version)
    assert await registry.pins(DEFAULT_TENANT, "ada") == {1, 2}
    for _ in range(2):
        await registry.unpin(DEFAULT_TENANT, "ada", 1)
    assert await registry.pins(DEFAULT_TENANT, "ada") == {2}
    assert await registry.pins(OTHER, "ada") == frozenset()


def read_by(reader: str, version: int | None = None, name: str = "ada") -> AdapterRef:
    return AdapterRef(DEFAULT_TENANT, name, version, TenantId(reader))


async def test_a_share_opens_every_version_to_its_reader_alone(registry: Registry) -> None:
    first, second = make_manifest(1), make_manifest(2)
    await advance(registry, first, second, make_manifest(1, "bob"))
    asked = [read_by("acme"), read_by("acme", 1), read_by("acme", 9), read_by("zeta")]
    asked += [read_by("acme", name="bob"), read_by("acme", name="eve"), ref()]
    assert await registry.resolve(asked) == [None] * 6 + [second.key]
    for _ in range(2):
        await registry.share(DEFAULT_TENANT, "ada", TenantId("acme"), 2)
    opened = [second.key, first.key, None, None, None, None, second.key]
    assert await registry.resolve(asked) == opened
    assert await registry.describe(read_by("acme", 1)) == first
    assert await registry.describe(read_by("zeta")) is None
    assert await registry.shares(DEFAULT_TENANT, "ada") == {"acme": 2}
    assert await registry.shares(OTHER, "ada") == {}
    for _ in range(2):
        await registry.unshare(DEFAULT_TENANT, "ada", TenantId("acme"))
    assert await registry.resolve(asked) == [None] * 6 + [second.key]


async def test_a_public_name_is_everybodys(registry: Registry) -> None:
    await advance(registry, make_manifest(1))
    await registry.share(DEFAULT_TENANT, "ada", PUBLIC, 1)
    await registry.share(DEFAULT_TENANT, "ada", TenantId("acme"), 1)
    assert None not in await registry.resolve([read_by("acme"), read_by("zeta", 1)])
    await registry.unshare(DEFAULT_TENANT, "ada", PUBLIC)
    found = await registry.resolve([read_by("acme"), read_by("zeta")])
    assert [key is not None for key in found] == [True, False]


async def test_shares_end_with_what_was_shared(registry: Registry) -> None:
    await advance(registry, make_manifest(1), make_manifest(2))
    await registry.share(DEFAULT_TENANT, "ada", TenantId("acme"), 1)
    await registry.share(DEFAULT_TENANT, "ada", TenantId("zeta"), 2)
    await registry.remove(DEFAULT_TENANT, "ada", 1)
    assert await registry.shares(DEFAULT_TENANT, "ada") == {"zeta": 2}
    await registry.remove(DEFAULT_TENANT, "ada", 2)
    assert await registry.shares(DEFAULT_TENANT, "ada") == {}
    await advance(registry, make_manifest(4))
    assert await registry.resolve([read_by("acme"), read_by("zeta")]) == [None, None]


async def test_many_publishers_at_once_leave_the_highest_version(registry: Registry) -> None:
    manifests = [make_manifest(version) for version in range(1, 41)]
    before = await asyncio.gather(*(registry.advance(one) for one in manifests[::-2] + manifests))
    assert before.count(None) == 1
    assert await registry.describe(ref()) == manifests[-1]
    assert await registry.versions(DEFAULT_TENANT, "ada") == manifests


async def test_it_answers_and_shows_nothing_secret(registry: Registry) -> None:
    await registry.ping()
    assert "Registry" in repr(registry)


names = st.sampled_from(["a", "b"])
numbers = st.integers(1, 6)
readers = st.sampled_from([TenantId("acme"), PUBLIC])
steps = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), names, numbers),
        st.tuples(st.just("forget"), names, st.sets(numbers, max_size=3)),
        st.tuples(st.just("remove"), names, numbers),
        st.tuples(st.just("pin"), names, numbers),
        st.tuples(st.just("unpin"), names, numbers),
        st.tuples(st.just("share"), names, st.tuples(readers, numbers)),
        st.tuples(st.just("unshare"), names, st.tuples(readers)),
    ),
    max_size=30,
)


async def _apply(registry: Registry, step: tuple[str, str, object]) -> object:
    """One step, and all that can be seen after it."""
    call, name, argument = step
    if call == "advance":
        assert isinstance(argument, int)
        done: object = await registry.advance(make_manifest(argument, name))
    else:
        arguments = argument if isinstance(argument, tuple) else (argument,)
        done = await getattr(registry, call)(DEFAULT_TENANT, name, *arguments)
    seen = [await registry.versions(DEFAULT_TENANT, one) for one in ("a", "b")]
    keys = await registry.resolve([ref(v, n) for n in ("a", "b") for v in (None, 1, 3, 6)])
    keys += await registry.resolve([read_by("acme", v, n) for n in ("a", "b") for v in (None, 3)])
    pins = [await registry.pins(DEFAULT_TENANT, one) for one in ("a", "b")]
    shares = [await registry.shares(DEFAULT_TENANT, one) for one in ("a", "b")]
    return done, seen, keys, pins, shares, await registry.page(DEFAULT_TENANT, "", 9)


@pytest.mark.parametrize("kind", SERVERS)
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=steps)
def test_a_server_does_what_the_fake_does(
    kind: str, request: pytest.FixtureRequest, steps: list[tuple[str, str, object]]
) -> None:
    async def compare() -> None:
        clients = RedisClients.connect(request.getfixturevalue(f"{kind}_url"))
        real, fake = RedisRegistry(clients, f"model-{next(_EXAMPLES)}"), MemoryRegistry()
        try:
            for step in steps:
                assert await _apply(real, step) == await _apply(fake, step)
        finally:
            await real.close()

    asyncio.run(compare())
