"""`ray.serve.llm` with LoRA adapters on a CPU, as its own process: a peer of `flora bench stack`.

It takes adapters from S3 alone, so a small S3 server of this process holds them.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
import ray
from moto.server import ThreadedMotoServer
from ray import serve

from benchmarks.peers import KV_CACHE_BYTES, MODEL_NAME

_BUCKET = "loras"
_OBJECT_STORE_BYTES = 256 * 1024**2


def upload(folder: Path) -> int:
    """Put every adapter folder into the bucket, and where Ray's workers find it; how many."""
    storage = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    storage.start()
    host, port = storage.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    client = boto3.client("s3")
    client.create_bucket(Bucket=_BUCKET)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in paths:
        client.upload_file(str(path), _BUCKET, path.relative_to(folder).as_posix())
    return len({path.parent for path in paths})


def llm_config(model: Path, num_adapters: int, rank: int, max_num_seqs: int) -> dict[str, Any]:
    """The engine of the other peers; Ray chooses the executor."""
    return {
        "model_loading_config": {"model_id": MODEL_NAME, "model_source": str(model.resolve())},
        "accelerator_config": {"kind": "cpu"},
        "lora_config": {
            "dynamic_lora_loading_path": f"s3://{_BUCKET}",
            "max_num_adapters_per_replica": num_adapters,
        },
        "deployment_config": {
            "num_replicas": 1,
            "max_ongoing_requests": 1024,
            "autoscaling_config": None,
        },
        "engine_kwargs": {
            "dtype": "bfloat16",
            "max_num_seqs": max_num_seqs,
            "kv_cache_memory_bytes": KV_CACHE_BYTES,
            "enforce_eager": True,
            "enable_lora": True,
            "max_loras": num_adapters,
            "max_cpu_loras": num_adapters,
            "max_lora_rank": rank,
        },
    }


def main() -> None:
    """`ray_llm_peer MODEL LORAS RANK MAX_NUM_SEQS PORT`: serve until SIGTERM."""
    model, loras, rank, max_num_seqs, port = sys.argv[1:]
    ended = threading.Event()
    from ray.serve.llm import LLMConfig, build_openai_app

    num_adapters = upload(Path(loras))
    ray.init(
        address="local",
        num_cpus=8,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    config = LLMConfig(**llm_config(Path(model), num_adapters, int(rank), int(max_num_seqs)))
    serve.run(build_openai_app({"llm_configs": [config]}))
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()
