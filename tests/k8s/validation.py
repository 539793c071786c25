"""What is wrong with manifests: by the schemas of their kinds, strictly, and by what they name."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
from jsonschema import Draft4Validator, Draft202012Validator
from jsonschema.protocols import Validator
from referencing import Registry, Resource

from tests.k8s.manifests import Manifest, Pod, pods, secret_templates

KUBERNETES_VERSION = "v1.34.0"
SCHEMAS = Path(__file__).parent / "schemas"
_CORE_SCHEMAS = (
    Path(kubernetes_validate.__file__).parent
    / "kubernetes-json-schema"
    / f"{KUBERNETES_VERSION}-local-strict"
)


def faults(objects: list[Manifest]) -> list[str]:
    """Everything that is wrong, each with the object at fault; nothing if all is well.

    What objects name is looked at once their shape is right.
    """
    return [fault for manifest in objects for fault in _schema_faults(manifest)] or [
        *(fault for pod in pods(objects) for fault in _pod_faults(pod, objects)),
        *_selector_faults(objects),
        *_route_faults(objects),
    ]


def strict(schema: Any, *, is_fields: bool = False) -> Any:
    """A custom resource's schema, in which a name that it does not know is a fault."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    made = {
        name: strict(part, is_fields=name == "properties" and not is_fields)
        for name, part in schema.items()
    }
    is_open = schema.get("x-kubernetes-preserve-unknown-fields")
    if not is_fields and "properties" in schema and "type" in schema and not is_open:
        made.setdefault("additionalProperties", False)
    return made


@cache
def _custom_schemas() -> dict[tuple[str, str], Any]:
    found = [json.loads(path.read_text()) for path in SCHEMAS.glob("*.json")]
    return {(one["apiVersion"], one["kind"]): strict(one["schema"]) for one in found}


@cache
def _definitions() -> "Registry[Any]":
    definitions = json.loads((_CORE_SCHEMAS / "_definitions.json").read_text())
    return Resource.from_contents(definitions) @ Registry()


@cache
def _validator(api_version: str, kind: str) -> Validator | None:
    custom = _custom_schemas().get((api_version, kind))
    if custom is not None:
        # OpenAPI 3.0 is an extension of JSON Schema's draft 4.
        return Draft4Validator(custom)
    # The package names files so: service-v1, statefulset-apps-v1, networkpolicy-networking-v1.
    group, _, version = api_version.rpartition("/")
    parts = (kind.lower(), *([group.partition(".")[0]] if group else []), version)
    path = _CORE_SCHEMAS / f"{'-'.join(parts)}.json"
    if not path.exists():
        return None
    schema = json.loads(path.read_text())
    registry = Resource.from_contents(schema) @ _definitions()
    return Draft202012Validator(schema, registry=registry)


def _schema_faults(manifest: Manifest) -> Iterator[str]:
    validator = _validator(manifest["apiVersion"], manifest["kind"])
    if validator is None:
        yield f"{_name(manifest)}: no such kind"
        return
    for error in validator.iter_errors(manifest):
        yield f"{_name(manifest)}: {error.json_path}: {error.message[:300]}"


def _pod_faults(pod: Pod, objects: list[Manifest]) -> Iterator[str]:
    volumes = {volume["name"] for volume in pod.spec.get("volumes", [])}
    volumes |= _claimed(pod, objects)
    mounted = {m["name"] for c in pod.containers for m in c.get("volumeMounts", [])}
    for name in mounted ^ volumes:
        yield f"{pod.owner}: volume {name} is mounted and missing, or there and not mounted"
    for kind, name, keys in _named_by(pod):
        if kind == "Secret":
            there = secret_templates().get(name)
        else:
            there = _contents(objects).get((kind, name))
        if there is None:
            yield f"{pod.owner}: no {kind} {name}"
        elif missing := keys - there:
            yield f"{pod.owner}: {kind} {name} has no {', '.join(sorted(missing))}"


def _claimed(pod: Pod, objects: list[Manifest]) -> set[str]:
    return {
        claim["metadata"]["name"]
        for found in objects
        if found["kind"] == "StatefulSet" and pod.owner == _name(found)
        for claim in found["spec"].get("volumeClaimTemplates", [])
    }


def _named_by(pod: Pod) -> Iterator[tuple[str, str, set[str]]]:
    """Kind, name and keys of all objects that a pod names."""
    if account := pod.spec.get("serviceAccountName"):
        yield "ServiceAccount", account, set()
    for volume in pod.spec.get("volumes", []):
        if secret := volume.get("secret"):
            yield "Secret", secret["secretName"], {i["key"] for i in secret.get("items", [])}
        if config := volume.get("configMap"):
            yield "ConfigMap", config["name"], set()
        if claim := volume.get("persistentVolumeClaim"):
            yield "PersistentVolumeClaim", claim["claimName"], set()
    for container in pod.containers:
        for source in container.get("envFrom", []):
            kind = "Secret" if "secretRef" in source else "ConfigMap"
            yield kind, source["secretRef" if kind == "Secret" else "configMapRef"]["name"], set()
        for variable in container.get("env", []):
            if secret := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", secret["name"], {secret["key"]}


def _contents(objects: list[Manifest]) -> dict[tuple[str, str], set[str]]:
    return {(o["kind"], o["metadata"]["name"]): set(o.get("data", {})) for o in objects}


def _selector_faults(objects: list[Manifest]) -> Iterator[str]:
    """Of everything that selects pods: whether there are such, with the ports that it names."""
    for found in objects:
        spec, name = found.get("spec", {}), _name(found)
        if found["kind"] == "Service":
            labels, ports = spec["selector"], [p["targetPort"] for p in spec["ports"]]
        elif found["kind"] == "NetworkPolicy":
            labels, ports = spec["podSelector"].get("matchLabels", {}), []
        elif found["kind"] in ("PodDisruptionBudget", "PodMonitor"):
            labels = spec["selector"]["matchLabels"]
            ports = [point["port"] for point in spec.get("podMetricsEndpoints", [])]
        else:
            continue
        chosen = [pod for pod in pods(objects) if labels.items() <= pod.labels.items()]
        if not chosen:
            yield f"{name}: selects no pods"
        for pod in chosen:
            for port in set(ports) - {
                p["name"] for c in pod.containers for p in c.get("ports", [])
            }:
                yield f"{name}: {pod.owner} has no port {port}"


def _route_faults(objects: list[Manifest]) -> Iterator[str]:
    """Of routes: whether the service is there with that port; of all that name a secret: that."""
    ray = [o["spec"]["serveService"] for o in objects if o["kind"] == "RayService"]
    served = {s["metadata"]["name"]: {p["port"] for p in s["spec"]["ports"]} for s in ray}
    names = {s["metadata"]["name"]: {p["name"] for p in s["spec"]["ports"]} for s in ray}
    for found in objects:
        for backend in _values(found, "backendRefs"):
            if backend["port"] not in served.get(backend["name"], set()):
                yield f"{_name(found)}: no service {backend['name']} with port {backend['port']}"
        for service in _values(found, "service"):
            if service["port"]["name"] not in names.get(service["name"], set()):
                yield f"{_name(found)}: no service {service['name']}, {service['port']}"
        wanted = [c["name"] for c in _values(found, "certificateRefs")]
        wanted += [c["secretName"] for c in _values(found, "tls") if "secretName" in c]
        wanted += [c["name"] for c in _values(found, "credentials")]
        for secret in set(wanted) - secret_templates().keys():
            yield f"{_name(found)}: no Secret {secret}"
        for secret in (c for c in _values(found, "redisPassword")):
            key = secret["valueFrom"]["secretKeyRef"]
            if key["key"] not in secret_templates().get(key["name"], set()):
                yield f"{_name(found)}: no Secret {key['name']} with {key['key']}"


def _values(node: Any, name: str) -> Iterator[Manifest]:
    """Every mapping that is, or is an item of, a field `name`, at any depth."""
    if isinstance(node, list):
        for part in node:
            yield from _values(part, name)
    elif isinstance(node, dict):
        for key, part in node.items():
            if key == name:
                yield from (p for p in (part if isinstance(part, list) else [part]) if p)
            yield from _values(part, name)


def _name(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"
