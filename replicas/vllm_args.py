"""A replica's settings as vLLM's arguments."""

import os
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
from transformers import AutoConfig
from vllm.config import StructuredOutputsConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from flora.base_model import fingerprint
from replicas.config import ReplicaConfig
from replicas.model_sizes import ModelSizes

# vLLM's own default is nearly all memory, and it does not start when other programs use some.
_CPU_KV_CACHE_BYTES = 1 << 30


def prepare_process(config: ReplicaConfig) -> None:
    """Set up this process's environment for a CPU engine, which inherits it; nothing on a GPU.

    A whole model runs inside the engine core's process: apart from it, the core would poll on a
    processor of its own while it waits for each step. The parts of a split one have a process and
    their share of the threads each.
    """
    if not current_platform.is_cpu():
        return
    os.environ["OMP_NUM_THREADS"] = str(_num_threads(config) // config.tensor_parallel_size)
    if config.tensor_parallel_size == 1:
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    else:
        # vLLM would want a NUMA node of its own for each part.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")


def require_parts(config: ReplicaConfig) -> None:
    """Raises ValueError, before anything is loaded, where the model does not divide into
    `tensor_parallel_size` parts, or this process has not the devices, threads or memory for them.
    """
    num_parts = config.tensor_parallel_size
    if num_parts == 1:
        return
    ModelSizes.of(AutoConfig.from_pretrained(config.model)).require(num_parts)
    wanted = f"tensor_parallel_size {num_parts} needs"
    if not current_platform.is_cpu():
        if (num_devices := current_platform.device_count()) < num_parts:
            raise ValueError(f"{wanted} as many GPUs, and this replica sees {num_devices}")
        return
    if (num_threads := _num_threads(config)) < num_parts:
        raise ValueError(f"{wanted} as many threads, not {num_threads}: set num_threads")
    wanted_bytes = num_parts * (config.kv_cache_bytes or _CPU_KV_CACHE_BYTES)
    if (free_bytes := psutil.virtual_memory().available) < wanted_bytes:
        raise ValueError(
            f"{wanted} {wanted_bytes} bytes for its KV caches, kv_cache_bytes each,"
            f" and {free_bytes} are free"
        )


def engine_args(config: ReplicaConfig) -> AsyncEngineArgs:
    """vLLM's arguments for a replica. Reads the model folder for its fingerprint and dtype."""
    options = {
        "num_slots": config.num_slots,
        "max_rank": config.max_rank,
        "base_fingerprint": base_fingerprint(config.model),
        "row_dtype": config.row_dtype,
        "kernel": config.kernel,
        "lora_rank": config.lora_rank,
        "lora_slots": config.lora_slots,
    }
    is_cpu = current_platform.is_cpu()
    is_eager = is_cpu if config.enforce_eager is None else config.enforce_eager
    optional: dict[str, Any] = {
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "kv_cache_memory_bytes": config.kv_cache_bytes or (_CPU_KV_CACHE_BYTES if is_cpu else None),
        "quantization": config.quantization,
        # Clips do not come twice, and gigabytes of them would be kept in two processes.
        "mm_processor_cache_gb": 0,
    }
    if not is_cpu:
        optional["gpu_memory_utilization"] = config.gpu_memory_share
        if config.lora_rank:
            # LoRA adapters are found on the host, which a captured graph would not see.
            optional["compilation_config"] = {"cudagraph_mode": "NONE"}
    return AsyncEngineArgs(
        model=config.model,
        dtype=config.dtype,
        max_model_len=config.max_model_len_tokens,
        max_num_seqs=config.max_running_seqs,
        scheduling_policy="priority",
        enforce_eager=is_eager,
        seed=config.seed,
        enable_lora=True,
        max_loras=config.num_slots,
        max_cpu_loras=config.num_slots,
        max_lora_rank=1,
        additional_config={"flora": options},
        # Never by what the schema asks for: an engine keeps the first backend that it was given.
        structured_outputs_config=StructuredOutputsConfig(backend="xgrammar"),
        worker_extension_cls="replicas.vllm_manager.FloraWorkerExtension",
        tensor_parallel_size=config.tensor_parallel_size,
        distributed_executor_backend=_executor(config, is_cpu),
        enable_log_requests=False,
        disable_log_stats=True,
        **{name: value for name, value in optional.items() if value is not None},
    )


def _executor(config: ReplicaConfig, is_cpu: bool) -> str | None:
    """All of a replica's GPUs are its actor's, which every process below it sees."""
    if config.tensor_parallel_size > 1:
        return "replicas.vllm_executor.FloraExecutor"
    return "uni" if is_cpu else None


def _num_threads(config: ReplicaConfig) -> int:
    """What a CPU engine computes with, all parts together."""
    return config.num_threads or len(os.sched_getaffinity(0))


def base_fingerprint(model: str) -> str:
    """The base's fingerprint: of its folder, or of a Hugging Face name's cached snapshot."""
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors"]))
    return fingerprint(folder)
