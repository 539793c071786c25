import asyncio
from pathlib import Path

import pytest

from adapter_cache.usage import AdapterUsage, MemoryUsage
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterRef
from contracts.errors import StoreUnavailable
from replicas.echo_engine import EchoEngine
from replicas.warm_start import WarmStart
from tests.replicas.engines import Stack


class FailingUsage(MemoryUsage):
    async def most_used(self, limit: int) -> list[AdapterRef]:
        raise StoreUnavailable("down")


async def make_usage(*names: str) -> MemoryUsage:
    """The first name is used most."""
    usage = MemoryUsage()
    counts = {AdapterRef(DEFAULT_TENANT, name): 99 - i for i, name in enumerate(names)}
    await usage.add(counts)
    return usage


def make_warm(
    stack: Stack, usage: AdapterUsage, noted: list[AdapterKey], limit: int = 10
) -> WarmStart:
    return WarmStart(
        usage, stack.store, stack.fetcher, limit=limit, timeout_s=0.2, note=noted.append
    )


def resident(stack: Stack) -> set[str]:
    return {each.digest for each in stack.cache.residents()}


async def test_the_most_used_adapters_are_on_the_node(echo: Stack) -> None:
    keys = [await echo.publish(name, seed=seed) for seed, name in enumerate("abcd")]
    noted: list[AdapterKey] = []
    usage = await make_usage("c", "deleted", "a", "d")
    await make_warm(echo, usage, noted, limit=3).start()
    assert resident(echo) == {keys[0].digest, keys[2].digest}
    assert {key.name for key in noted} == {"a", "c"}


@pytest.mark.parametrize("limit", [0, 10])
async def test_nothing_to_warm(echo: Stack, limit: int) -> None:
    noted: list[AdapterKey] = []
    await make_warm(echo, await make_usage(), noted, limit).start()
    await make_warm(echo, await make_usage("a"), noted, limit).start()
    assert (noted, resident(echo)) == ([], set())


async def test_one_that_fails_or_is_slow_holds_nobody_up(tmp_path: Path) -> None:
    stack = Stack(EchoEngine(), tmp_path)
    slow = await stack.publish("slow")
    lost = await stack.publish("lost", seed=1)
    good = await stack.publish("good", seed=2)
    del stack.store.blobs[lost.digest]
    event = stack.store.held[slow.digest]
    noted: list[AdapterKey] = []
    await make_warm(stack, await make_usage("slow", "lost", "good"), noted).start()
    assert (noted, resident(stack)) == ([good], {good.digest})
    event.set()
    await stack.close()


async def test_it_starts_without_the_store(echo: Stack) -> None:
    noted: list[AdapterKey] = []
    await make_warm(echo, FailingUsage(), noted).start()
    assert noted == []
    await asyncio.sleep(0)
