"""A replica's devices as vLLM's arguments, and what they must be."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transformers import LlamaConfig

from contracts.errors import EngineFailed
from replicas import vllm_args
from replicas.config import ReplicaConfig
from replicas.vllm_engine import VllmEngine

TWO = ReplicaConfig("m", tensor_parallel_size=2, num_gpus=2.0)
EXECUTOR = "replicas.vllm_executor.FloraExecutor"


def on(monkeypatch: pytest.MonkeyPatch, is_cpu: bool, num_gpus: int = 0) -> None:
    platform = SimpleNamespace(is_cpu=lambda: is_cpu, device_count=lambda: num_gpus)
    monkeypatch.setattr(vllm_args, "current_platform", platform)


@pytest.mark.parametrize(
    ("is_cpu", "config", "expected"),
    [
        (True, ReplicaConfig("m"), (1, "uni")),
        (True, ReplicaConfig("m", tensor_parallel_size=2), (2, EXECUTOR)),
        (False, ReplicaConfig("m", num_gpus=0.5), (1, None)),
        (False, TWO, (2, EXECUTOR)),
    ],
)
def test_the_executor_fits_the_devices(
    is_cpu: bool, config: ReplicaConfig, expected: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, is_cpu)
    monkeypatch.setattr(vllm_args, "base_fingerprint", lambda model: "f")
    args = vllm_args.engine_args(config)
    assert (args.tensor_parallel_size, args.distributed_executor_backend) == expected


@pytest.mark.parametrize(
    ("num_parts", "num_threads", "threads", "binding"),
    [(1, 6, "6", None), (2, 6, "3", "nobind"), (4, 6, "1", "nobind")],
)
def test_the_parts_of_a_model_divide_the_threads(
    num_parts: int,
    num_threads: int,
    threads: str,
    binding: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on(monkeypatch, is_cpu=True)
    for name in ("OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    config = ReplicaConfig("m", tensor_parallel_size=num_parts, num_threads=num_threads)
    vllm_args.prepare_process(config)
    assert os.environ["OMP_NUM_THREADS"] == threads
    assert os.environ.get("VLLM_CPU_OMP_THREADS_BIND") == binding


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder of which nothing but its sizes is read: 4 heads, 2 of them keys."""
    config = LlamaConfig(
        num_attention_heads=4, num_key_value_heads=2, intermediate_size=320, vocab_size=320
    )
    config.save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"tensor_parallel_size": 3}, "4 attention heads and 2 key-value heads and an inter"),
        ({"tensor_parallel_size": 2, "num_threads": 1}, "as many threads, not 1"),
        ({"tensor_parallel_size": 2, "kv_cache_bytes": 1 << 60}, "2305843009213693952 bytes"),
    ],
)
def test_what_cannot_be_split_is_refused_before_anything_starts(
    model: str, values: dict[str, Any], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, is_cpu=True)
    config = ReplicaConfig(model, **{"num_threads": 8, "kv_cache_bytes": 1} | values)
    with pytest.raises(EngineFailed, match=f"tensor_parallel_size.*{problem}"):
        asyncio.run(VllmEngine(config).start())


def test_gpus_that_the_replica_does_not_see(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ReplicaConfig(model, tensor_parallel_size=4)
    on(monkeypatch, is_cpu=False, num_gpus=3)
    with pytest.raises(ValueError, match=r"tensor_parallel_size 4 needs as many GPUs.*sees 3"):
        vllm_args.require_parts(config)
    on(monkeypatch, is_cpu=False, num_gpus=4)
    vllm_args.require_parts(config)
