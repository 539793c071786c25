"""A real vLLM engine on a GPU, its CUDA graphs included, against transformers with W' for W."""

from pathlib import Path

import numpy as np
import pytest

from contracts.adapters import BASE
from tests.replicas.engine.exactness import (
    NUM_SEQUENCES,
    NUM_TOKENS,
    Batch,
    ask_batch,
    assert_no_worse_than_base,
)
from tests.replicas.engine.models import make_tiny
from tests.replicas.engine.parts import Stack, make_adapter, make_config, running

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.vllm,
    pytest.mark.timeout(580),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


async def ask_first_pairs(stack: Stack) -> Batch:
    """32 sequences whose adapters have one pair a group: what CUDA graphs are replayed for."""
    rng = np.random.default_rng(8)
    prompts = [rng.integers(1, 258, 20).tolist() for _ in range(NUM_SEQUENCES)]
    adapters = {}
    for seed in range(NUM_SEQUENCES // 2):
        adapter = make_adapter(stack.layout, "rank-1 tied", 100 + seed, 0.3)
        adapters[await stack.publish(f"tied-{seed}", adapter)] = adapter
    keys = [*adapters, *[BASE] * (NUM_SEQUENCES // 2)]
    answers = await stack.ask(prompts, keys, NUM_TOKENS)
    return Batch(stack.layout, adapters, keys, prompts, answers)


@pytest.mark.parametrize("kernel", ["triton", "plain"])
@pytest.mark.parametrize("enforce_eager", [True, False], ids=["eager", "graphs"])
async def test_every_kind_of_adapter(tmp_path: Path, kernel: str, enforce_eager: bool) -> None:
    """With graphs, steps that replay one and steps that must not take turns."""
    model = make_tiny("llama", tmp_path / "model")
    config = make_config(
        model,
        dtype="bfloat16",
        kernel=kernel,
        enforce_eager=enforce_eager,
        gpu_memory_share=0.3,
        kv_cache_bytes=1 << 30,
    )
    async with running(config, tmp_path / "cache") as stack:
        batches = [
            await ask_first_pairs(stack),
            await ask_batch(stack, 258, 0.3),
            await ask_first_pairs(stack),
        ]
    for batch in batches:
        assert_no_worse_than_base(batch.distance(model))


async def test_int8_rows(tmp_path: Path) -> None:
    model = make_tiny("llama", tmp_path / "model")
    config = make_config(
        model, dtype="bfloat16", row_dtype="int8", enforce_eager=False, gpu_memory_share=0.3
    )
    async with running(config, tmp_path / "cache") as stack:
        batch = await ask_batch(stack, 258, 0.3)
    assert_no_worse_than_base(batch.distance(model))
