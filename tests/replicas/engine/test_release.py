"""Slots that are given up are free, and what comes back is loaded again."""

import asyncio
from pathlib import Path

import pytest

from contracts.adapters import AdapterKey, Digest
from contracts.generation import GenerateRequest, Sampling
from tests.replicas.engine.models import make_tiny
from tests.replicas.engine.parts import Stack, make_adapter, make_config, running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(200),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PROMPT = (1, 2, 3, 4, 5)
LONG = Sampling(100, temperature=0.0, ignore_eos=True)


async def answer(stack: Stack, key: AdapterKey) -> tuple[int, ...]:
    (found,) = await stack.ask([PROMPT], [key], 12)
    return found.token_ids


async def long_answer(
    stack: Stack, request_id: str, key: AdapterKey, release: Digest | None = None
) -> list[int]:
    """A hundred tokens; between any two of them, `release` is tried, which must do nothing."""
    tokens: list[int] = []
    async for batch in stack.replica.generate((GenerateRequest(request_id, key, PROMPT, LONG),)):
        for delta in batch.deltas:
            tokens += delta.token_ids
        if release is not None and len(tokens) < LONG.max_tokens:
            assert not await stack.engine.release(release)
    return tokens


async def used(stack: Stack) -> int:
    return (await stack.engine.slots()).used


async def test_slots_are_released_counted_and_filled_again(tmp_path: Path) -> None:
    config = make_config(make_tiny("llama", tmp_path / "model"), num_slots=4, max_num_seqs=2)
    async with running(config, tmp_path / "cache") as stack:
        assert await used(stack) == 0
        keys = [
            await stack.publish(f"a{seed}", make_adapter(stack.layout, "rank-1 tied", seed, 0.3))
            for seed in range(6)
        ]
        first, second = keys[:2]
        expected = {key: await answer(stack, key) for key in (first, second)}
        assert len(set(expected.values())) == 2
        report = await stack.engine.slots()
        assert (report.num_slots, report.used, report.hits, report.misses) == (4, 2, 0, 2)

        await check_idle(stack, first, second, expected)
        await check_in_use(stack, first, second, expected[first])

        # More adapters than slots: the last four have one, and nothing leaks by being released.
        for key in keys:
            await answer(stack, key)
        report = await stack.engine.slots()
        assert (report.used, report.evictions) == (4, 2)
        for key in keys:
            await stack.engine.release(key.digest)
        assert await used(stack) == 0
        assert {key: await answer(stack, key) for key in (first, second)} == expected


async def check_idle(
    stack: Stack, first: AdapterKey, second: AdapterKey, expected: dict[AdapterKey, tuple[int, ...]]
) -> None:
    """The slot of one that is released is free, the other's is not touched."""
    assert await stack.engine.release(first.digest)
    assert await used(stack) == 1
    assert not await stack.engine.release(first.digest)
    assert not await stack.engine.release(Digest("f" * 64))
    assert [await answer(stack, key) for key in (second, first)] == [
        expected[second],
        expected[first],
    ]
    report = await stack.engine.slots()
    assert (report.used, report.hits, report.misses, report.evictions) == (2, 1, 3, 0)


async def check_in_use(
    stack: Stack, first: AdapterKey, second: AdapterKey, expected: tuple[int, ...]
) -> None:
    """Releasing what is in use does nothing to it."""
    # In use: nothing happens, and the answer is what it is.
    quiet = await long_answer(stack, "quiet", first)
    assert await long_answer(stack, "disturbed", first, first.digest) == quiet
    assert await used(stack) == 2

    # Released while it is asked for again: whichever comes first, the tokens are the same.
    for _ in range(5):
        _, again = await asyncio.gather(stack.engine.release(first.digest), answer(stack, first))
        assert again == expected

    # Cancelled: nobody uses it any more.
    stream = stack.replica.generate((GenerateRequest("left", second, PROMPT, LONG),))
    await anext(stream)
    await stream.aclose()
    assert await stack.engine.release(second.digest)
