"""A bad row, a refused request or an abort is one request's affair; the engine goes on."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contracts.adapters import BASE, AdapterKey, Digest
from contracts.errors import AdapterCorrupt, InvalidRequest
from contracts.generation import GenerateRequest, Sampling, TokenDelta
from flora.row import encode_row
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
GREEDY = Sampling(12, temperature=0.0, ignore_eos=True)


async def deltas(
    stack: Stack, *requests: GenerateRequest, cancel: str = ""
) -> list[list[TokenDelta]]:
    """Each request's deltas; `cancel` names one that is cancelled after the first step."""
    found: list[list[TokenDelta]] = [[] for _ in requests]
    async for batch in stack.replica.generate(requests):
        for delta in batch.deltas:
            found[delta.index].append(delta)
        if cancel:
            await stack.replica.cancel((cancel,))
    return found


def make_request(name: str, key: AdapterKey, sampling: Sampling = GREEDY) -> GenerateRequest:
    return GenerateRequest(name, key, PROMPT, sampling)


def tokens(found: list[TokenDelta]) -> tuple[int, ...]:
    return tuple(token for delta in found for token in delta.token_ids)


async def test_one_fails_the_others_go_on(tmp_path: Path) -> None:
    config = make_config(make_tiny("llama", tmp_path / "model"), num_slots=4, max_num_seqs=4)
    async with running(config, tmp_path / "cache") as stack:
        keys = [
            await stack.publish(f"a{seed}", make_adapter(stack.layout, "rank-1 tied", seed, 0.3))
            for seed in range(6)
        ]
        expected = [
            tokens((await deltas(stack, make_request(f"first-{i}", key)))[0])
            for i, key in enumerate(keys)
        ]
        assert len(set(expected)) == len(keys)

        # More adapters than slots, several times over: every one is itself again after eviction.
        for turn in range(2):
            group = [make_request(f"turn-{turn}-{i}", key) for i, key in enumerate(keys)]
            assert [tokens(found) for found in await deltas(stack, *group)] == expected

        # A file that is no row: its request fails in the engine, its neighbours do not notice.
        garbage = tmp_path / "garbage"
        garbage.write_bytes(b"FLR1" + bytes(500))
        bad = AdapterKey(keys[0].tenant, "bad", 1, Digest("b" * 64), 504)
        good = asyncio.create_task(deltas(stack, make_request("good", keys[1])))
        foreign = tmp_path / "foreign"
        other = replace(stack.layout, base_fingerprint="llama-of-another")
        numbers = np.zeros(other.base_width, np.float32)
        foreign.write_bytes(encode_row(other, [0] * len(other.groups), numbers))
        whys = {"garbage": "not a row", "absent": "FileNotFound", "foreign": "another base model"}
        for path in (garbage, tmp_path / "absent", foreign):
            with pytest.raises(AdapterCorrupt, match=f"'bad': .*{whys[path.name]}"):
                await stack.engine.submit(
                    make_request(f"bad-{path.name}", bad), path, asyncio.Event()
                )
        assert tokens((await good)[0]) == expected[1]

        # What the engine refuses, it refuses to one.
        refused = make_request("refused", BASE, replace(GREEDY, temperature=-1.0))
        first, second = await deltas(stack, refused, make_request("beside", keys[2]))
        assert isinstance(first[0].error, InvalidRequest)
        assert tokens(second) == expected[2]

        # An abort ends one; the group goes on.
        long = make_request("long", keys[3], replace(GREEDY, max_tokens=110))
        short = make_request("short", keys[4])
        first, second = await deltas(stack, long, short, cancel="long")
        assert len(tokens(first)) < 110
        assert first[-1].finish_reason == "abort"
        assert tokens(second) == expected[4]
        await stack.replica.check()


async def test_numbers_beyond_all_bounds_stay_with_their_request(tmp_path: Path) -> None:
    """Infinities in reused blocks of the KV cache would make everybody's attention infinite."""
    config = make_config(make_tiny("llama", tmp_path / "model"), num_slots=4, max_num_seqs=4)
    async with running(config, tmp_path / "cache") as stack:
        tame = make_adapter(stack.layout, "rank-1 tied", 1, 0.3)
        others = [BASE, await stack.publish("tame", tame)]
        expected = [
            tokens((await deltas(stack, make_request(f"first-{i}", key)))[0])
            for i, key in enumerate(others)
        ]
        for number, scale in enumerate((1e4, 1e18, 1e36)):
            wild = make_adapter(stack.layout, "rank-1 tied", 9, scale)
            key = await stack.publish(f"wild-{number}", wild)
            for turn in range(3):
                name = f"{number}-{turn}"
                request = make_request(f"wild-{name}", key, replace(GREEDY, max_tokens=40))
                beside = [make_request(f"{name}-{i}", other) for i, other in enumerate(others)]
                found = await deltas(stack, request, *beside)
                assert [tokens(one) for one in found[1:]] == expected
                after = [make_request(f"after-{name}-{i}", k) for i, k in enumerate(others)]
                assert [tokens(one) for one in await deltas(stack, *after)] == expected
