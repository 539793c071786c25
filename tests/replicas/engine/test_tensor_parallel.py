"""Two processes that share a model give what one gives, adapters and faults included."""

import asyncio
from pathlib import Path

import pytest

from contracts.adapters import BASE, AdapterKey, Digest
from contracts.errors import AdapterCorrupt
from contracts.generation import GenerateRequest, Sampling
from tests.replicas.engine.exactness import ask_batch, assert_exact
from tests.replicas.engine.models import make_tiny
from tests.replicas.engine.parts import Stack, make_adapter, make_config, running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PROMPT = (1, 2, 3, 4, 5)


async def test_two_devices_are_exact_together(tmp_path: Path) -> None:
    """With biases, which one of them adds."""
    model = make_tiny("biased_llama", tmp_path / "model")
    config = make_config(model, tensor_parallel_size=2, num_threads=2)
    async with running(config, tmp_path / "cache") as stack:
        batch = await ask_batch(stack, 258, 0.3)
        key = next(key for key in batch.keys if key != BASE)
        await check_bad_files(stack, key, tmp_path)
        await check_numbers_beyond_all_bounds(stack, [BASE, key])
        report = await stack.engine.slots()
        assert report.used >= len(batch.adapters)
        assert report.evictions == 0
    assert_exact(batch.distance(model))


async def tokens(stack: Stack, keys: list[AdapterKey]) -> list[tuple[int, ...]]:
    return [answer.token_ids for answer in await stack.ask([PROMPT] * len(keys), keys, 12)]


async def check_bad_files(stack: Stack, key: AdapterKey, directory: Path) -> None:
    """Both processes refuse them; no answer of theirs is taken for that to a later call."""
    expected = await tokens(stack, [BASE, key])
    garbage = directory / "garbage"
    garbage.write_bytes(b"FLR1" + bytes(500))
    bad = AdapterKey(key.tenant, "bad", 1, Digest("b" * 64), 504)
    for path in (garbage, directory / "absent"):
        request = GenerateRequest(f"bad-{path.name}", bad, PROMPT, Sampling(12, temperature=0.0))
        with pytest.raises(AdapterCorrupt):
            await stack.engine.submit(request, path, asyncio.Event())
        assert await tokens(stack, [BASE, key]) == expected
    await stack.replica.check()


async def check_numbers_beyond_all_bounds(stack: Stack, others: list[AdapterKey]) -> None:
    """The sums over both processes may be infinite; what goes to the KV cache is not."""
    expected = await tokens(stack, others)
    for number, scale in enumerate((1e18, 1e36)):
        wild = make_adapter(stack.layout, "rank-1 tied", 9, scale)
        key = await stack.publish(f"wild-{number}", wild)
        for _ in range(2):
            assert (await tokens(stack, [key, *others]))[1:] == expected
            assert await tokens(stack, others) == expected
