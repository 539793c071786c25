"""The formulas of docs/operations.md, capacity, on the numbers of an overlay."""

import re
from dataclasses import dataclass

from app.config import Settings
from app.model_config import ModelConfig
from tests.k8s.manifests import Manifest, Pod

GIB = 1024**3
RAY_NODE_BYTES = GIB
DOOR_BYTES = GIB
CPU_ENGINE_BYTES = 2 * GIB
GPU_ENGINE_BYTES = 6 * GIB
REQUEST_BYTES = 64 * 1024
REGISTRY_BYTES = 312
USAGE_RECORD_BYTES = 230
REDIS_SHARE = 1.5
REDIS_BYTES = 256 * 1024**2
_UNITS = {"": 1, "m": 0.001, "Ki": 1024, "Mi": 1024**2, "Gi": GIB, "mb": 1024**2, "gb": GIB}


@dataclass(frozen=True)
class BaseModel:
    """What a base model costs: its weights, a KV token, an adapter of rank 1 with tied inputs, and
    a slot of rank 1, which has room for inputs of each member's own.
    """

    weight_bytes: int
    kv_bytes: int
    row_bytes: int
    slot_bytes: int


MODELS = {
    # row: layers x ((hidden + q + 2 kv) + (q + hidden) + (hidden + 2 wide) + (wide + hidden)) x 2
    # slot: the same with 3 x the first group and 2 x the third
    "smollm2-135m-instruct": BaseModel(
        269_000_000, 2 * 30 * 3 * 64 * 2, 30 * 8_448 * 2, 30 * 15_168 * 2
    ),
    "qwen3-0.6b": BaseModel(1_192_000_000, 2 * 28 * 8 * 128 * 2, 28 * 19_456 * 2, 28 * 36_864 * 2),
    "qwen3-8b": BaseModel(16_382_000_000, 2 * 36 * 8 * 128 * 2, 36 * 63_488 * 2, 36 * 112_640 * 2),
}


def amount(quantity: str) -> float:
    """A quantity of Kubernetes, or of Redis, as a number."""
    number, unit = re.fullmatch(r"([\d.]+)([A-Za-z]*)", quantity).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


def slab_bytes(model: ModelConfig) -> int:
    """Rows on the device."""
    base = MODELS[model.model.rpartition("/")[2]]
    return (model.num_slots + 1) * model.max_rank * base.slot_bytes


def engine_bytes(model: ModelConfig) -> int:
    """Host memory of one engine's process."""
    if model.num_gpus:
        return GPU_ENGINE_BYTES
    base = MODELS[model.model.rpartition("/")[2]]
    return CPU_ENGINE_BYTES + base.weight_bytes + (model.kv_cache_bytes or GIB) + slab_bytes(model)


def shared_memory_bytes(settings: Settings, object_store_bytes: int) -> int:
    """What lies in /dev/shm of a pod with engines."""
    return settings.cache.node_cache_bytes + object_store_bytes


def engine_pod_bytes(settings: Settings, num_cpus: float, object_store_bytes: int) -> float:
    """A pod with as many engines of one model as fit, for the model that needs most."""
    most = max(engine_bytes(m) * _engines(m, num_cpus) for m in settings.served_models)
    return RAY_NODE_BYTES + most + shared_memory_bytes(settings, object_store_bytes)


def _engines(model: ModelConfig, num_cpus: float) -> int:
    by_cpus = num_cpus // model.num_cpus
    return int(min(by_cpus, 1 // model.num_gpus) if model.num_gpus else by_cpus)


def ingress_pod_bytes(settings: Settings, object_store_bytes: int) -> int:
    """A pod with one ingress process, its proxy, and the uploads that it compiles at a time."""
    limits = settings.upload.limits
    uploads = settings.upload.max_parallel * (limits.max_file_bytes + limits.max_row_bytes)
    requests = settings.window.max_running + settings.window.max_waiting
    return RAY_NODE_BYTES + DOOR_BYTES + object_store_bytes + uploads + requests * REQUEST_BYTES


def redis_data_bytes(settings: Settings, num_adapters: int, num_hot_rows: int) -> int:
    """What `maxmemory` has to hold."""
    row = max(MODELS[m.model.rpartition("/")[2]].row_bytes for m in settings.served_models)
    usage = settings.usage.max_records * USAGE_RECORD_BYTES
    return num_adapters * REGISTRY_BYTES + usage + num_hot_rows * row


def memory_of(pod: Pod) -> float:
    """The memory limit of a pod's first container of many."""
    return amount(pod.spec["containers"][0]["resources"]["limits"]["memory"])


def object_store_bytes(group: Manifest) -> int:
    """What a Ray group keeps for Ray's own objects."""
    return int(group["rayStartParams"]["object-store-memory"])
