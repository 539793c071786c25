import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.registry_guard import MemoryMarker, RegistryGuard
from adapter_cache.remembering_registry import RememberingRegistry
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterRef, Digest
from contracts.errors import StoreUnavailable

NAMES = ("a", "b", "c")


def ref_of(name: str) -> AdapterRef:
    return AdapterRef(DEFAULT_TENANT, name)


def key_of(name: str, version: int = 1) -> AdapterKey:
    return AdapterKey(DEFAULT_TENANT, name, version, Digest(f"{name}{version}" * 32), 10)


class FakeRegistry:
    """Knows what it is told, fails when it is told to, and answers when `gate` is open."""

    def __init__(self, *names: str) -> None:
        self.keys = {name: key_of(name) for name in names}
        self.is_down = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.num_asked = 0

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        self.num_asked += 1
        answer = [self.keys.get(ref.name) for ref in refs]
        await self.gate.wait()
        if self.is_down:
            raise StoreUnavailable("down")
        return answer


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def make(
    registry: FakeRegistry, clock: Clock | None = None, max_names: int = 10, timeout_s: float = 5.0
) -> RememberingRegistry:
    return RememberingRegistry(
        registry,
        max_age_s=60,
        timeout_s=timeout_s,
        max_names=max_names,
        pause_s=1,
        clock=clock or Clock(),
    )


async def ask(names: RememberingRegistry, *wanted: str) -> list[AdapterKey | str | None]:
    found = await names.resolve([ref_of(name) for name in wanted])
    return ["unavailable" if isinstance(key, StoreUnavailable) else key for key in found]


async def test_fresh_answers_pass_through() -> None:
    registry = FakeRegistry("a")
    names = make(registry)
    assert await ask(names, "a", "b") == [key_of("a"), None]
    registry.keys["a"] = key_of("a", 2)
    assert await ask(names, "a") == [key_of("a", 2)]
    assert await ask(names) == []
    assert names.num_stale_answers == 0


async def test_an_outage_is_answered_from_memory_ref_by_ref() -> None:
    registry = FakeRegistry("a", "b", "new")
    names = make(registry)
    await ask(names, "a", "b", "unknown")
    registry.is_down = True
    assert await ask(names, "a", "new", "b") == [key_of("a"), "unavailable", key_of("b")]
    assert names.num_stale_answers == 2
    for cold in ("new", "unknown"):
        with pytest.raises(StoreUnavailable, match="down"):
            await ask(names, cold)


async def test_memory_is_forgotten_in_time() -> None:
    registry, clock = FakeRegistry("a"), Clock()
    names = make(registry, clock)
    await ask(names, "a")
    registry.is_down = True
    clock.now_s += 59
    assert await ask(names, "a") == [key_of("a")]
    clock.now_s += 1
    with pytest.raises(StoreUnavailable):
        await ask(names, "a")
    await names.close()


async def test_a_deleted_name_is_not_remembered() -> None:
    registry = FakeRegistry("a")
    names = make(registry)
    await ask(names, "a")
    del registry.keys["a"]
    assert await ask(names, "a") == [None]
    registry.is_down = True
    with pytest.raises(StoreUnavailable):
        await ask(names, "a")


async def test_only_so_many_names_are_remembered() -> None:
    registry = FakeRegistry("a", "b", "c")
    names = make(registry, max_names=2)
    for name in ("a", "b", "a", "c"):
        await ask(names, name)
    registry.is_down = True
    assert await ask(names, *NAMES) == [key_of("a"), "unavailable", key_of("c")]


async def test_a_registry_that_hangs_costs_one_wait() -> None:
    registry, clock = FakeRegistry("a"), Clock()
    names = make(registry, clock, timeout_s=0.01)
    await ask(names, "a")
    registry.gate.clear()
    assert await ask(names, "a") == [key_of("a")]
    asked = registry.num_asked
    for _ in range(5):
        assert await ask(names, "a") == [key_of("a")]
    assert registry.num_asked == asked
    clock.now_s += 1
    # Somebody must look; known names do not wait for it, and one who looks is enough.
    assert [await ask(names, "a") for _ in range(3)] == [[key_of("a")]] * 3
    await asyncio.sleep(0)
    assert registry.num_asked == asked + 1
    await names.close()


async def test_it_heals_by_itself() -> None:
    registry, clock = FakeRegistry("a", "cold"), Clock()
    names = make(registry, clock)
    await ask(names, "a")
    registry.is_down = True
    await ask(names, "a")
    registry.is_down = False
    registry.keys["a"] = key_of("a", 2)
    assert await ask(names, "a") == [key_of("a")]
    clock.now_s += 1
    assert await ask(names, "a") == [key_of("a")]
    await asyncio.sleep(0)
    assert await ask(names, "a") == [key_of("a", 2)]
    assert names.num_stale_answers == 3


async def test_a_cold_name_after_a_quiet_outage_is_looked_up() -> None:
    registry, clock = FakeRegistry("cold"), Clock()
    names = make(registry, clock)
    registry.is_down = True
    with pytest.raises(StoreUnavailable):
        await ask(names, "cold")
    registry.is_down = False
    clock.now_s += 3600
    assert await ask(names, "cold") == [key_of("cold")]


async def test_an_answer_that_was_overtaken_is_not_remembered() -> None:
    registry, clock = FakeRegistry("a"), Clock()
    names = make(registry, clock)
    registry.gate.clear()
    late = asyncio.create_task(ask(names, "a"))
    await asyncio.sleep(0)
    gate, registry.gate = registry.gate, asyncio.Event()
    registry.gate.set()
    registry.keys["a"] = key_of("a", 2)
    clock.now_s += 1
    await ask(names, "a")
    gate.set()
    assert await late == [key_of("a")]
    registry.is_down = True
    assert await ask(names, "a") == [key_of("a", 2)]


async def test_close_ends_the_probe() -> None:
    registry, clock = FakeRegistry("a"), Clock()
    names = make(registry, clock)
    await ask(names, "a")
    registry.is_down = True
    await ask(names, "a")
    clock.now_s += 1
    registry.gate.clear()
    await ask(names, "a")
    await names.close()
    await names.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert "outage" in repr(names)


async def test_a_registry_that_is_being_rebuilt_is_not_believed() -> None:
    registry, marker = FakeRegistry("a", "b"), MemoryMarker()
    guard = RegistryGuard(marker, asyncio.Event().wait, new_token=lambda: "t")
    names = RememberingRegistry(registry, guard=guard, max_age_s=60, timeout_s=5, pause_s=0)
    await marker.finish(await marker.begin("t"))
    registry.keys["b"] = key_of("b", 3)
    assert await ask(names, "a", "b") == [key_of("a"), key_of("b", 3)]

    # Emptied, and of b's versions only the first is back.
    marker.wipe()
    registry.keys = {"b": key_of("b", 1)}
    for _ in range(3):
        assert await ask(names, "a", "b") == [key_of("a"), key_of("b", 3)]
        await asyncio.sleep(0)

    # Rebuilt, and a has been deleted meanwhile: the registry is right again.
    registry.keys = {"b": key_of("b", 3)}
    await marker.finish(await marker.begin("t"))
    await ask(names, "a", "b")
    await asyncio.sleep(0)
    assert await ask(names, "a", "b") == [None, key_of("b", 3)]
    await names.close()


Step = tuple[str, str, float]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "publish", "delete", "down", "up"]),
            st.sampled_from(NAMES),
            st.sampled_from([0.0, 0.5, 1.0, 30.0, 60.0]),
        ),
        max_size=40,
    )
)
def test_never_wrong_and_never_older_than_allowed(steps: list[Step]) -> None:
    """Whatever happens, an answer was the registry's within `max_age_s`; in touch, it is now's."""
    asyncio.run(run_steps(steps))


async def run_steps(steps: list[Step]) -> None:
    registry, clock = FakeRegistry(), Clock()
    names = make(registry, clock, max_names=2)
    history: list[tuple[float, dict[str, AdapterKey]]] = [(clock(), {})]
    for kind, name, passes_s in steps:
        clock.now_s += passes_s
        if kind == "publish":
            version = registry.keys[name].version + 1 if name in registry.keys else 1
            registry.keys[name] = key_of(name, version)
        elif kind == "delete":
            registry.keys.pop(name, None)
        elif kind != "ask":
            registry.is_down = kind == "down"
        history.append((clock(), dict(registry.keys)))
        if kind != "ask":
            continue
        was_in_touch = "in touch" in repr(names) and not registry.is_down
        try:
            (found,) = await ask(names, name)
        except StoreUnavailable:
            assert not was_in_touch
            continue
        finally:
            await asyncio.sleep(0)
        if was_in_touch:
            assert found == registry.keys.get(name)
        ages = [clock() - at_s for at_s, keys in history if keys.get(name) == found]
        # A state lasts until the next one begins.
        lasted = [
            clock() - ended_s
            for (_, keys), (ended_s, _) in pairwise(history)
            if keys.get(name) == found
        ]
        assert ages
        assert min(ages + lasted) < 60
    await names.close()
