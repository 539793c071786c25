"""Prefix-cache blocks are shared within one version of one adapter, and never across."""

from pathlib import Path

import numpy as np
import pytest

from contracts.adapters import BASE, AdapterKey
from tests.replicas.engine.models import make_tiny
from tests.replicas.engine.parts import Answer, Oracle, Stack, make_adapter, make_config, running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(200),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

PROMPT = np.random.default_rng(3).integers(1, 250, 400).tolist()
NUM_TOKENS = 8


async def ask_one(stack: Stack, key: AdapterKey) -> Answer:
    (answer,) = await stack.ask([PROMPT], [key], NUM_TOKENS)
    return answer


async def test_hits_within_an_adapter_never_across(tmp_path: Path) -> None:
    model = make_tiny("llama", tmp_path / "model")
    config = make_config(model, max_model_len_tokens=512)
    async with running(config, tmp_path / "cache") as stack:
        adapters = {
            name: make_adapter(stack.layout, "rank-1 tied", seed, 0.3)
            for seed, name in enumerate(("one", "two", "one, republished"))
        }
        one = await stack.publish("one", adapters["one"])
        two = await stack.publish("two", adapters["two"])
        cold = {key: await ask_one(stack, key) for key in (BASE, one, two)}
        assert [answer.num_cached_tokens for answer in cold.values()] == [0, 0, 0]

        warm = {key: await ask_one(stack, key) for key in (BASE, one, two)}
        assert all(answer.num_cached_tokens >= 128 for answer in warm.values())
        assert {k: a.token_ids for k, a in warm.items()} == {
            k: a.token_ids for k, a in cold.items()
        }

        republished = await stack.publish("one", adapters["one, republished"])
        assert (republished.version, republished.name) == (2, one.name)
        new = await ask_one(stack, republished)
        assert new.num_cached_tokens == 0
        keys = [one, republished, BASE, two] * 2
        together = await stack.ask([PROMPT] * len(keys), keys, NUM_TOKENS)
        assert all(answer.num_cached_tokens >= 128 for answer in together)
        expected = cold | {republished: new}
        assert [a.token_ids for a in together] == [expected[key].token_ids for key in keys]
        layout = stack.layout

    oracle = Oracle(model, layout)
    by_key = {BASE: None, one: adapters["one"], two: adapters["two"]}
    by_key[republished] = adapters["one, republished"]
    for key, adapter in by_key.items():
        worst, not_best = oracle.compare(adapter, [PROMPT], [expected[key]])
        assert (worst < 1e-3, not_best) == (True, 0)
    assert len({answer.token_ids for answer in expected.values()}) == 4
