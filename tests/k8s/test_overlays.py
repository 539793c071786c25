"""Every overlay builds, and every object in it is what its kind's schema says and names what is."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.k8s.manifests import (
    OVERLAYS,
    Manifest,
    build,
    kustomize_command,
    one,
    pods,
    ray_pod,
    secret_templates,
)
from tests.k8s.validation import faults


def cluster(objects: list[Manifest]) -> Manifest:
    config: Manifest = one(objects, "RayService", "flora")["spec"]["rayClusterConfig"]
    return config


def head(objects: list[Manifest]) -> Manifest:
    container: Manifest = ray_pod(objects, "head").spec["containers"][0]
    return container


def redis(objects: list[Manifest]) -> Manifest:
    spec: Manifest = one(objects, "StatefulSet", "redis")["spec"]
    return spec


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_has_no_fault(overlay: str) -> None:
    objects = build(overlay)
    assert faults(objects) == []
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(set(names)) == len(names)
    assert {o["metadata"].get("namespace") for o in objects if o["kind"] != "Namespace"} == {
        "flora"
    }


MUTATIONS: dict[str, tuple[Callable[[list[Manifest]], Any], str]] = {
    "wrong key": (lambda o: cluster(o).update(gcsFaultTolerance={}), "gcsFaultTolerance"),
    "wrong key in a pod of Ray": (lambda o: head(o).update(readynessProbe={}), "readynessProbe"),
    "wrong key of a core kind": (lambda o: redis(o).update(replica=1), "replica"),
    "wrong type": (
        lambda o: cluster(o)["workerGroupSpecs"][0].update(maxReplicas="8"),
        "not of type 'integer'",
    ),
    "wrong type in a core kind": (lambda o: redis(o).update(replicas="one"), "replicas"),
    "wrong value": (
        lambda o: cluster(o)["autoscalerOptions"].update(version="v3"),
        "is not one of ['v1', 'v2']",
    ),
    "missing field": (lambda o: cluster(o).pop("headGroupSpec"), "headGroupSpec"),
    "unknown kind": (
        lambda o: one(o, "Service", "redis").update(kind="Servise"),
        "no such kind",
    ),
    "missing secret": (
        lambda o: head(o)["env"][0]["valueFrom"]["secretKeyRef"].update(name="redis-client"),
        "no Secret redis-client",
    ),
    "missing key of a secret": (
        lambda o: head(o)["env"][0]["valueFrom"]["secretKeyRef"].update(key="uri"),
        "Secret redis-clients has no uri",
    ),
    "missing password": (
        lambda o: cluster(o)["gcsFaultToleranceOptions"]["redisPassword"]["valueFrom"][
            "secretKeyRef"
        ].update(key="password"),
        "no Secret redis-clients with password",
    ),
    "missing certificate": (
        lambda o: redis(o)["template"]["spec"]["volumes"][2]["secret"].update(secretName="tls"),
        "no Secret tls",
    ),
    "missing configuration": (
        lambda o: head(o)["envFrom"][0]["configMapRef"].update(name="ray"),
        "no ConfigMap ray",
    ),
    "missing volume": (
        lambda o: head(o)["volumeMounts"].append({"name": "spare", "mountPath": "/spare"}),
        "volume spare",
    ),
    "selector that meets nothing": (
        lambda o: one(o, "PodDisruptionBudget", "engine")["spec"]["selector"]["matchLabels"].update(
            {"app.kubernetes.io/component": "engines"}
        ),
        "PodDisruptionBudget engine: selects no pods",
    ),
    "port that is not there": (
        lambda o: one(o, "Service", "redis")["spec"]["ports"][0].update(targetPort="valkey"),
        "has no port valkey",
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_validator_notices(name: str) -> None:
    mutate, fault = MUTATIONS[name]
    objects = build("local")
    mutate(objects)
    found = faults(objects)
    assert any(fault in one_fault for one_fault in found), found


@pytest.mark.parametrize(
    ("kind", "change", "fault"),
    [
        ("HTTPRoute", {"name": "floral"}, "no service floral with port 8000"),
        ("GRPCRoute", {"port": 9001}, "no service flora with port 9001"),
    ],
)
def test_the_validator_follows_routes(kind: str, change: dict[str, Any], fault: str) -> None:
    objects = build("gpu")
    one(objects, kind, "flora")["spec"]["rules"][0]["backendRefs"][0].update(change)
    assert any(fault in found for found in faults(objects))


def test_without_kustomize_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(RuntimeError, match=r"kubectl .* is needed to build k8s/overlays"):
        kustomize_command()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_containers_are_locked(overlay: str) -> None:
    """As the namespace's pod security standard, `restricted`, and a read-only root ask for."""
    objects = build(overlay)
    for pod in pods(objects):
        assert pod.spec["securityContext"]["runAsNonRoot"] is True, pod.owner
        assert pod.spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod.containers:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True, (pod.owner, container["name"])
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
    assert cluster(objects)["autoscalerOptions"]["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_autoscaler_mounts_what_the_head_has(overlay: str) -> None:
    objects = build(overlay)
    mounts = cluster(objects)["autoscalerOptions"]["volumeMounts"]
    volumes = {volume["name"] for volume in ray_pod(objects, "head").spec["volumes"]}
    assert {mount["name"] for mount in mounts} <= volumes
    assert "/tmp" in {mount["mountPath"] for mount in mounts}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_containers_have_probes_and_resources(overlay: str) -> None:
    for pod in pods(build(overlay)):
        for container in pod.containers:
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys()
            assert resources["limits"]["memory"] == resources["requests"]["memory"]
        if not pod.owner.startswith("Job"):
            assert {"livenessProbe", "readinessProbe"} <= pod.spec["containers"][0].keys()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_leave_no_variables_that_look_like_settings(overlay: str) -> None:
    """Kubernetes would tell every pod of the service flora by FLORA_SERVICE_HOST, and more."""
    for pod in pods(build(overlay)):
        assert pod.spec["enableServiceLinks"] is False, pod.owner


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nobody_but_the_head_speaks_to_kubernetes(overlay: str) -> None:
    for pod in pods(build(overlay)):
        is_head = pod.owner.endswith(" head")
        assert pod.spec.get("automountServiceAccountToken", True) is is_head, pod.owner


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_an_overlay(overlay: str) -> None:
    assert [o for o in build(overlay) if o["kind"] == "Secret"] == []
    assert secret_templates().keys() >= {"redis-users", "redis-clients", "redis-tls"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_images_have_a_version_of_their_own(overlay: str) -> None:
    images = {c["image"] for pod in pods(build(overlay)) for c in pod.containers}
    assert all(re.search(r":\d+\.\d+\.\d+(-[a-z]+)?$", image) for image in images), images
