"""The overlays as kustomize builds them, and the pods in them."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
OVERLAYS = sorted(path.name for path in (K8S / "overlays").iterdir())

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A template of pods; `owner` is kind and name of what makes them, and the group of a Ray."""

    owner: str
    labels: dict[str, str]
    spec: Manifest

    @property
    def containers(self) -> list[Manifest]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def kustomize_command() -> list[str]:
    """What builds an overlay. Raises RuntimeError that says what to install."""
    for name, command in (
        ("kubectl", ["kubectl", "kustomize"]),
        ("kustomize", ["kustomize", "build"]),
    ):
        if shutil.which(name):
            return command
    raise RuntimeError(
        "kubectl 1.27 or kustomize 5.0, or a newer one, is needed to build k8s/overlays"
        " (https://kubernetes.io/docs/tasks/tools/)"
    )


@cache
def _text(overlay: str) -> str:
    command = [*kustomize_command(), str(K8S / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def read(text: str) -> list[Manifest]:
    """The objects of a YAML stream."""
    return [found for found in yaml.load_all(text, yaml.CSafeLoader) if found]


def build(overlay: str) -> list[Manifest]:
    """The objects of an overlay, the caller's own."""
    return read(_text(overlay))


def secret_templates() -> dict[str, set[str]]:
    """Names of the secrets that a cluster has to have, and their keys."""
    text = (K8S / "secrets" / "templates.yaml").read_text(encoding="utf-8")
    return {secret["metadata"]["name"]: set(secret["stringData"]) for secret in read(text)}


def one(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """The object of that kind and name."""
    [found] = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]
    return found


def named(objects: list[Manifest], kind: str, name: str) -> Manifest:
    """The ConfigMap or the like whose name begins so and ends with a hash of its contents."""
    [found] = [
        o for o in objects if o["kind"] == kind and o["metadata"]["name"].rpartition("-")[0] == name
    ]
    return found


def serve_config(objects: list[Manifest]) -> Manifest:
    """What Ray Serve gets of an overlay."""
    text = one(objects, "RayService", "flora")["spec"]["serveConfigV2"]
    config: Manifest = yaml.load(text, yaml.CSafeLoader)
    return config


def settings_arguments(objects: list[Manifest]) -> Manifest:
    """What the application gets of an overlay."""
    [application] = serve_config(objects)["applications"]
    arguments: Manifest = application["args"]
    return arguments


def pods(objects: list[Manifest]) -> Iterator[Pod]:
    """Every template of pods."""
    for found in objects:
        owner, spec = f"{found['kind']} {found['metadata']['name']}", found.get("spec", {})
        if found["kind"] == "RayService":
            cluster = spec["rayClusterConfig"]
            yield _pod(f"{owner} head", cluster["headGroupSpec"]["template"])
            for group in cluster["workerGroupSpecs"]:
                yield _pod(f"{owner} {group['groupName']}", group["template"])
        elif "template" in spec:
            yield _pod(owner, spec["template"])


def ray_pod(objects: list[Manifest], group: str) -> Pod:
    """The template of a Ray group: `head`, `ingress` or `engine`."""
    [found] = [pod for pod in pods(objects) if pod.owner == f"RayService flora {group}"]
    return found


def _pod(owner: str, template: Manifest) -> Pod:
    return Pod(owner, template["metadata"]["labels"], template["spec"])
