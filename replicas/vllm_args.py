"""A replica's settings as vLLM's arguments."""

import os
from pathlib import Path
from typing import Any

from vllm.config import StructuredOutputsConfig
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from flora.base_model import fingerprint
from replicas.config import ReplicaConfig

# vLLM's own default is nearly all memory, and it does not start when other programs use some.
_CPU_KV_CACHE_BYTES = 1 << 30


def prepare_process(config: ReplicaConfig) -> None:
    """Set up this process's environment for a CPU engine, which inherits it; nothing on a GPU.

    The model runs inside the engine core's process: apart from it, the core would poll on a
    processor of its own while it waits for each step.
    """
    if current_platform.is_cpu():
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        num_threads = config.num_threads or len(os.sched_getaffinity(0))
        os.environ["OMP_NUM_THREADS"] = str(num_threads)


def engine_args(config: ReplicaConfig) -> AsyncEngineArgs:
    """vLLM's arguments for a replica. Reads the model folder for its fingerprint and dtype."""
    options = {
        "num_slots": config.num_slots,
        "max_rank": config.max_rank,
        "base_fingerprint": base_fingerprint(config.model),
        "row_dtype": config.row_dtype,
        "kernel": config.kernel,
    }
    is_cpu = current_platform.is_cpu()
    is_eager = is_cpu if config.enforce_eager is None else config.enforce_eager
    optional: dict[str, Any] = {
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "kv_cache_memory_bytes": config.kv_cache_bytes or (_CPU_KV_CACHE_BYTES if is_cpu else None),
        "quantization": config.quantization,
    }
    if not is_cpu:
        optional["gpu_memory_utilization"] = config.gpu_memory_share
        if config.max_rank > 1:
            # Further pairs are counted on the host, which a captured graph would not see.
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
        distributed_executor_backend="uni" if is_cpu else None,
        enable_log_requests=False,
        disable_log_stats=True,
        **{name: value for name, value in optional.items() if value is not None},
    )


def base_fingerprint(model: str) -> str:
    """The base's fingerprint: of its folder, or of a Hugging Face name's cached snapshot."""
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(model, allow_patterns=["*.json", "*.safetensors"]))
    return fingerprint(folder)
