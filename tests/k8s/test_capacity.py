"""Memory that pods ask for is at least what the written formulas say (docs/operations.md)."""

import json
import re

import pytest

from tests.k8s import capacity
from tests.k8s.capacity import GIB, amount
from tests.k8s.manifests import OVERLAYS, ROOT, Manifest, build, one, ray_pod
from tests.k8s.serving import settings_of

NEEDS = {
    # Registered adapters, and rows in Redis: what each overlay is made for.
    "local": (100_000, 400),
    "gpu": (1_000_000, 1_500),
    "multi-model": (1_000_000, 1_500),
}


def groups(objects: list[Manifest]) -> dict[str, Manifest]:
    cluster = one(objects, "RayService", "flora")["spec"]["rayClusterConfig"]
    return {group["groupName"]: group for group in cluster["workerGroupSpecs"]}


def shared_memory(objects: list[Manifest], group: str) -> float:
    [volume] = [v for v in ray_pod(objects, group).spec["volumes"] if v["name"] == "shm"]
    assert volume["emptyDir"]["medium"] == "Memory"
    return amount(volume["emptyDir"]["sizeLimit"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_of_engines_have_the_memory_of_the_formula(overlay: str) -> None:
    objects = build(overlay)
    settings, group = settings_of(objects), groups(objects)["engine"]
    kept = capacity.object_store_bytes(group)
    needed = capacity.engine_pod_bytes(settings, float(group["resources"]["CPU"]), kept)
    assert capacity.memory_of(ray_pod(objects, "engine")) >= needed
    assert shared_memory(objects, "engine") >= capacity.shared_memory_bytes(settings, kept)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_of_the_ingress_have_the_memory_of_the_formula(overlay: str) -> None:
    objects = build(overlay)
    kept = capacity.object_store_bytes(groups(objects)["ingress"])
    needed = capacity.ingress_pod_bytes(settings_of(objects), kept)
    assert capacity.memory_of(ray_pod(objects, "ingress")) >= needed
    assert shared_memory(objects, "ingress") >= kept


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_redis_has_the_memory_of_the_formula(overlay: str) -> None:
    objects = build(overlay)
    spec = one(objects, "StatefulSet", "redis")["spec"]
    container = spec["template"]["spec"]["containers"][0]
    most = amount(container["args"][container["args"].index("--maxmemory") + 1])
    assert most >= capacity.redis_data_bytes(settings_of(objects), *NEEDS[overlay])
    limit = amount(container["resources"]["limits"]["memory"])
    assert limit >= capacity.REDIS_SHARE * most + capacity.REDIS_BYTES
    [claim] = spec["volumeClaimTemplates"]
    assert amount(claim["spec"]["resources"]["requests"]["storage"]) >= 3 * most


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_there_may_be_pods_for_all_the_engines_that_there_may_be(overlay: str) -> None:
    objects = build(overlay)
    settings, found = settings_of(objects), groups(objects)
    gpus, cpus = (float(found["engine"]["resources"].get(name, 0)) for name in ("GPU", "CPU"))
    needed = sum(
        (m.scaling.max_replicas or m.num_replicas)
        * max(m.num_cpus / cpus, (m.num_gpus or 0) / gpus if gpus else 0)
        for m in settings.served_models
    )
    assert found["engine"]["maxReplicas"] >= needed
    assert found["ingress"]["minReplicas"] >= settings.server.num_ingress_replicas


def test_the_formulas_numbers_are_those_of_the_page_and_of_records() -> None:
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    record = json.loads((ROOT / "benchmarks" / "results" / "registry.json").read_text())
    assert int(record["metrics"]["redis_bytes_per_adapter"]) == capacity.REGISTRY_BYTES
    for name, number in (
        ("ray", capacity.RAY_NODE_BYTES / GIB),
        ("door", capacity.DOOR_BYTES / GIB),
        ("engine on a CPU", capacity.CPU_ENGINE_BYTES / GIB),
        ("engine on a GPU", capacity.GPU_ENGINE_BYTES / GIB),
    ):
        assert re.search(rf"\| `{name}` \| {number:g} GiB \|", page), name
    for name, model in capacity.MODELS.items():
        row = rf"\| {re.escape(name)} \| {model.kv_bytes:,} \| {model.row_bytes:,} \|"
        assert re.search(row, page), name


def test_a_row_of_the_demo_model_is_as_long_as_its_layout_says() -> None:
    assert capacity.MODELS["smollm2-135m-instruct"].row_bytes == 253_440 * 2


@pytest.mark.parametrize(("text", "number"), [("250m", 0.25), ("2Gi", 2 * GIB), ("8gb", 8 * GIB)])
def test_quantities_are_read(text: str, number: float) -> None:
    assert amount(text) == number
