"""Publishes, rollbacks, deletes, evictions and collection race readers: nobody is answered wrongly.

Short runs of `flora bench races`, which goes on for minutes.
"""

import asyncio
from pathlib import Path

import pytest

from benchmarks.race import JUDGE_S
from benchmarks.races import races
from replicas.config import ReplicaConfig
from tests.replicas.engine.models import make_tiny

pytestmark = [
    pytest.mark.redis,
    pytest.mark.slow,
    # vLLM leaves a ZeroMQ context to the garbage collector when an engine ends.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


async def race(config: ReplicaConfig, folder: Path, seconds: float) -> None:
    async with races(config, folder, seed=1) as run:
        await run.prepare(scale=0.5)
        await run.run(seconds)
        await asyncio.sleep(JUDGE_S + 0.5)
    assert not run.outcome.wrong, run.outcome.wrong[:5]
    assert not run.outcome.errors
    assert run.outcome.answers > 100
    assert run.outcome.absent > 0
    assert run.history.num_moves > 30


async def test_on_the_echo_engine(tmp_path: Path) -> None:
    await race(ReplicaConfig("echo", engine="echo"), tmp_path, 6.0)


@pytest.mark.vllm
async def test_on_a_real_engine(tmp_path: Path) -> None:
    config = ReplicaConfig(
        str(make_tiny("llama", tmp_path / "model")),
        dtype="float32",
        num_slots=72,
        max_num_seqs=64,
        max_rank=1,
        max_model_len_tokens=64,
        kv_cache_bytes=64 << 20,
    )
    await race(config, tmp_path, 10.0)
