"""An emptied registry is noticed, rebuilt, and not believed until it is."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.registry_guard import (
    AlwaysWhole,
    Guard,
    MarkerGuard,
    MemoryMarker,
    RegistryGuard,
)
from contracts.errors import NotReady, StoreUnavailable


class Rebuilds:
    """Counts; `wiped_during` rebuilds have the marker wiped under them, `failing` ones fail."""

    def __init__(self, marker: MemoryMarker, wiped_during: int = 0, failing: int = 0) -> None:
        self.marker = marker
        self.wiped_during = wiped_during
        self.failing = failing
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        await asyncio.sleep(0)
        if self.count <= self.failing:
            raise StoreUnavailable("the object store is down")
        if self.count <= self.wiped_during:
            self.marker.wipe()
        return f"rebuild {self.count}"


def make_guard(marker: MemoryMarker, rebuilds: Rebuilds, check_s: float = 0.01) -> RegistryGuard:
    numbers = itertools.count()
    return RegistryGuard(marker, rebuilds, new_token=lambda: f"t{next(numbers)}", check_s=check_s)


@asynccontextmanager
async def running(guard: RegistryGuard) -> AsyncIterator[None]:
    task = asyncio.ensure_future(guard.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until_whole(guard: RegistryGuard) -> None:
    async with asyncio.timeout(5):
        while True:
            with suppress(NotReady):
                return await guard.require_whole()
            await asyncio.sleep(0.001)


async def test_a_new_registry_is_rebuilt_once_and_then_believed() -> None:
    marker = MemoryMarker()
    rebuilds = Rebuilds(marker)
    guard = make_guard(marker, rebuilds)
    for reader in (guard, MarkerGuard(marker)):
        with pytest.raises(NotReady):
            await reader.require_whole()
    assert await guard.check()
    assert await guard.check()
    for reader in (guard, MarkerGuard(marker)):
        await reader.require_whole()
    assert rebuilds.count == 1


async def test_a_wipe_under_a_rebuild_makes_another_one_necessary() -> None:
    marker = MemoryMarker()
    guard = make_guard(marker, Rebuilds(marker, wiped_during=1))
    assert not await guard.check()
    with pytest.raises(NotReady):
        await guard.require_whole()
    assert await guard.check()


async def test_it_heals_by_itself_whatever_fails_on_the_way() -> None:
    marker = MemoryMarker()
    rebuilds = Rebuilds(marker, wiped_during=3, failing=2)
    guard = make_guard(marker, rebuilds)
    async with running(guard):
        await until_whole(guard)
        assert rebuilds.count == 4
        marker.wipe()
        await until_whole(guard)
    assert rebuilds.count == 5


async def test_who_misses_the_marker_does_not_wait_for_the_next_look() -> None:
    marker = MemoryMarker()
    guard = make_guard(marker, Rebuilds(marker), check_s=3600)
    async with running(guard):
        await until_whole(guard)
        marker.wipe()
        await until_whole(guard)
    assert await marker.is_whole()


async def test_a_bug_in_a_rebuild_does_not_end_the_guard() -> None:
    class Broken(Rebuilds):
        async def __call__(self) -> str:
            if not self.count:
                self.count += 1
                raise RuntimeError("a bug")
            return await super().__call__()

    marker = MemoryMarker()
    guard = make_guard(marker, Broken(marker))
    async with running(guard):
        await until_whole(guard)
    assert await marker.is_whole()


class Registry:
    """Names in a server that also has the marker: both go at once."""

    def __init__(self, truth: frozenset[str]) -> None:
        self.truth = truth
        self.marker = MemoryMarker()
        self.names: set[str] = set()

    def wipe(self) -> None:
        self.names.clear()
        self.marker.wipe()

    async def rebuild(self) -> None:
        for name in sorted(self.truth):
            await asyncio.sleep(0)
            self.names.add(name)


@given(st.lists(st.integers(0, 6), max_size=5), st.integers(1, 3))
def test_it_is_never_called_whole_while_a_name_is_missing(
    pauses: list[int], num_guards: int
) -> None:
    """Wipes come at any step of several guards' rebuilds."""

    async def scenario() -> None:
        registry = Registry(frozenset("abc"))
        numbers = itertools.count()
        guards = [
            RegistryGuard(
                registry.marker, registry.rebuild, new_token=lambda: f"t{next(numbers)}", check_s=0
            )
            for _ in range(num_guards)
        ]
        checks = [asyncio.ensure_future(guard.check()) for guard in guards]
        for pause in pauses:
            for _ in range(pause):
                await asyncio.sleep(0)
                if await registry.marker.is_whole():
                    assert registry.names == registry.truth
            registry.wipe()
            checks += [asyncio.ensure_future(guard.check()) for guard in guards]
        await asyncio.gather(*checks)
        if await registry.marker.is_whole():
            assert registry.names == registry.truth

    asyncio.run(scenario())


async def test_the_null_object_believes_everything() -> None:
    guard: Guard = AlwaysWhole()
    for _ in range(2):
        await guard.require_whole()
    assert isinstance(guard, AlwaysWhole)
