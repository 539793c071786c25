"""Additive LoRA beside fLoRA in one real vLLM batch, against transformers with merged weights."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from contracts.adapters import BASE, AdapterKey, Digest
from contracts.errors import AdapterCorrupt
from contracts.generation import GenerateRequest, Sampling
from contracts.replica import SlotReport
from flora.codec import CompiledAdapter
from flora.lora_row import encode_lora
from tests.replicas.engine.exactness import FLOAT32_TOLERANCE
from tests.replicas.engine.loras import MixedOracle, make_lora
from tests.replicas.engine.models import make_tiny
from tests.replicas.engine.parts import Stack, make_adapter, make_config, running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(200),
    pytest.mark.asyncio(loop_scope="module"),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

NUM_TOKENS = 12
RNG = np.random.default_rng(7)
LONG = RNG.integers(1, 250, 400).tolist()
NAMES = count()


@dataclass(frozen=True)
class Server:
    """An engine with its oracle."""

    stack: Stack
    oracle: MixedOracle


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """One engine for all: three LoRA slots of rank 8 at most."""
    folder = tmp_path_factory.mktemp("lora")
    model = make_tiny("llama", folder / "model")
    config = make_config(
        model, max_model_len_tokens=512, lora_rank=8, lora_slots=3, num_slots=16, max_num_seqs=10
    )
    async with running(config, folder / "cache") as stack:
        assert stack.lora_layout is not None
        yield Server(stack, MixedOracle(model, stack.layout, stack.lora_layout))
    # What vLLM leaves to the garbage collector is not to be found in somebody else's test.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def stack(server: Server) -> Stack:
    return server.stack


async def publish(stack: Stack, adapter: CompiledAdapter) -> AdapterKey:
    return await stack.publish(f"a{next(NAMES)}", adapter)


def make_prompts(number: int) -> list[list[int]]:
    return [RNG.integers(1, 250, length).tolist() for length in RNG.integers(5, 40, number)]


Adapters = dict[AdapterKey, CompiledAdapter | None]


async def assert_exact(
    server: Server, prompts: list[list[int]], adapters: Adapters, keys: list[AdapterKey]
) -> None:
    """One batch: every token the oracle's best, every log-probability the oracle's."""
    answers = await server.stack.ask(prompts, keys, NUM_TOKENS)
    for prompt, key, answer in zip(prompts, keys, answers, strict=True):
        worst, not_best = server.oracle.compare(adapters[key], [prompt], [answer])
        assert (worst < FLOAT32_TOLERANCE, not_best) == (True, 0), (key.name, worst)


async def test_base_flora_and_loras_of_every_rank_in_one_batch(
    server: Server, stack: Stack
) -> None:
    made: list[CompiledAdapter | None] = [
        None,
        make_adapter(stack.layout, "rank-1 tied", 0, 0.3),
        make_adapter(stack.layout, "rank 4", 1, 0.3),
        make_lora(stack, 8, 2, 0.1),
        make_lora(stack, 2, 3, 0.2, part="self_attn"),
        make_lora(stack, 1, 4, 0.3, part="v_proj"),
    ]
    keys = [BASE if each is None else await publish(stack, each) for each in made]
    adapters = dict(zip(keys, made, strict=True))
    order = [keys[i] for i in (0, 3, 1, 4, 3, 2, 5, 0, 4, 1)]
    prompts = make_prompts(len(order))
    await assert_exact(server, prompts, adapters, order)
    # Alone, and LoRA adapters alone: the kinds do not need each other.
    await assert_exact(server, prompts[1:2], adapters, order[1:2])
    loras = [keys[i] for i in (3, 4, 5, 4)]
    await assert_exact(server, prompts[:4], adapters, loras)
    together = await stack.ask([prompts[0]] * len(keys), keys, NUM_TOKENS)
    assert len({answer.token_ids for answer in together}) == len(keys)


async def test_more_loras_than_slots_take_turns_and_come_back(server: Server, stack: Stack) -> None:
    adapters: Adapters = {}
    for seed in range(10, 16):
        lora = make_lora(stack, 8 if seed % 2 else 2, seed, 0.15)
        adapters[await publish(stack, lora)] = lora
    keys = list(adapters)
    flora = make_adapter(stack.layout, "rank-1 untied", 20, 0.3)
    adapters[await publish(stack, flora)] = flora
    evicted = (await slots(stack)).evictions
    for _ in range(2):
        await assert_exact(server, make_prompts(7), adapters, [*keys, list(adapters)[-1]])
    report = await slots(stack)
    assert (report.num_slots, report.used, report.waiting) == (3, 3, 0)
    assert report.evictions >= evicted + 9
    assert await stack.engine.release(keys[-1].digest)
    assert (await slots(stack)).used == 2
    before = report.hits
    for _ in range(2):
        await assert_exact(server, make_prompts(1), adapters, keys[:1])
    assert (await slots(stack)).hits >= before + 1


async def test_the_prefix_cache_is_shared_within_a_lora_and_never_across(
    server: Server, stack: Stack
) -> None:
    loras = [make_lora(stack, rank, 30 + rank, 0.15) for rank in (2, 8)]
    flora = make_adapter(stack.layout, "rank-1 tied", 33, 0.3)
    adapters = {await publish(stack, each): each for each in (*loras, flora)}
    keys = [BASE, *adapters]
    cold = [(await stack.ask([LONG], [key], NUM_TOKENS))[0] for key in keys]
    warm = await stack.ask([LONG] * len(keys), keys, NUM_TOKENS)
    assert [answer.num_cached_tokens for answer in cold] == [0] * len(keys)
    assert all(answer.num_cached_tokens >= 128 for answer in warm)
    assert [a.token_ids for a in warm] == [a.token_ids for a in cold]
    for key, answer in zip(keys, cold, strict=True):
        worst, not_best = server.oracle.compare(adapters.get(key), [LONG], [answer])
        assert (worst < FLOAT32_TOLERANCE, not_best) == (True, 0)


async def test_a_bad_row_is_its_own_requests_error(stack: Stack, tmp_path: Path) -> None:
    good = await publish(stack, make_lora(stack, 8, 40, 0.1))
    prompt = make_prompts(1)
    expected = await stack.ask(prompt, [good], 40)
    bad = AdapterKey(good.tenant, "bad", 1, Digest("b" * 64), 504)
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"LOR1" + bytes(500))
    beside = asyncio.create_task(stack.ask(prompt, [good], 40))
    request = GenerateRequest("bad", bad, (1, 2, 3), Sampling(4, temperature=0.0))
    with pytest.raises(AdapterCorrupt):
        await stack.engine.submit(request, garbage, asyncio.Event())
    assert (await beside)[0].token_ids == expected[0].token_ids


async def test_numbers_beyond_all_bounds_stay_with_their_request(stack: Stack) -> None:
    """What an adapter puts into the KV cache is finite, whichever kind it is."""
    prompts = make_prompts(1)
    (expected,) = await stack.ask(prompts, [BASE], NUM_TOKENS)
    for scale in (1e4, 1e18, 1e30):  # a publish refuses these
        wild = await publish(stack, make_wild(stack, scale))
        for _ in range(3):
            beside = (await stack.ask([prompts[0]] * 2, [wild, BASE], NUM_TOKENS))[1]
            (after,) = await stack.ask(prompts, [BASE], NUM_TOKENS)
            assert beside.token_ids == after.token_ids == expected.token_ids


def make_wild(stack: Stack, scale: float) -> CompiledAdapter:
    assert stack.lora_layout is not None
    pairs = [
        (np.full((8, n_in), scale, np.float32), np.full((n_out, 8), scale, np.float32))
        for n_in, n_out in stack.lora_layout.sizes
    ]
    blob = encode_lora(stack.lora_layout, pairs)
    return CompiledAdapter(blob, Digest(sha256(blob).hexdigest()), 8, len(pairs))


async def slots(stack: Stack) -> SlotReport:
    report = (await stack.engine.slots()).lora
    assert report is not None
    return report
