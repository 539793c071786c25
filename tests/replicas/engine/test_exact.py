"""One real vLLM batch of every kind of adapter gives what transformers gives with W' materialised."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from contracts.adapters import AdapterKey
from tests.replicas.engine.models import SMOLLM2, make_tiny
from tests.replicas.engine.parts import Oracle, make_config, make_keys, running

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.timeout(400),
    # vLLM leaves its sockets' context to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

NUM_SEQUENCES = 32
FLOAT32_TOLERANCE = 1e-3


async def deviation(
    model: Path,
    tmp_path: Path,
    vocab_size: int,
    scale: float,
    reference: Path | None = None,
    **changes: object,
) -> tuple[float, int, int]:
    """Worst log-probability difference, tokens that are not the oracle's best, tokens in all."""
    rng = np.random.default_rng(7)
    lengths = rng.integers(5, 40, NUM_SEQUENCES)
    prompts = [rng.integers(1, vocab_size, length).tolist() for length in lengths]
    async with running(make_config(model, **changes), tmp_path) as stack:
        keys, adapters = await make_keys(stack, NUM_SEQUENCES, scale)
        answers = await stack.ask(prompts, keys, 24)
        layout = stack.layout
    oracle = Oracle(reference or model, layout)
    by_key: dict[AdapterKey, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        by_key[key].append(i)
    worst, not_best = 0.0, 0
    for key, places in by_key.items():
        found = oracle.compare(
            adapters.get(key), [prompts[i] for i in places], [answers[i] for i in places]
        )
        worst, not_best = max(worst, found[0]), not_best + found[1]
    return worst, not_best, sum(len(answer.token_ids) for answer in answers)


@pytest.mark.parametrize("enforce_eager", [True, False], ids=["eager", "compiled"])
async def test_smollm2_float32(tmp_path: Path, enforce_eager: bool) -> None:
    worst, not_best, total = await deviation(
        SMOLLM2, tmp_path, 49_000, 0.05, enforce_eager=enforce_eager
    )
    print(f"worst difference {worst:.2e}, {not_best} of {total} tokens not the oracle's best")
    assert total == NUM_SEQUENCES * 24
    assert worst < FLOAT32_TOLERANCE
    assert not_best == 0


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_bigcode"])
@pytest.mark.parametrize("kernel", ["auto", "plain"])
async def test_architectures_float32(tmp_path: Path, kind: str, kernel: str) -> None:
    model = make_tiny(kind, tmp_path / "model")
    worst, not_best, total = await deviation(model, tmp_path / "c", 258, 0.3, kernel=kernel)
    print(f"worst difference {worst:.2e}, {not_best} of {total} tokens not the oracle's best")
    assert worst < FLOAT32_TOLERANCE
    assert not_best == 0
