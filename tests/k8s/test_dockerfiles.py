"""The images: pinned bases, locks, another user than root, and a root that may be read-only."""

import re
from fnmatch import fnmatch

import pytest
from dockerfile_parse import DockerfileParser

from tests.k8s.manifests import K8S, ROOT, build, pods

FILES = sorted(K8S.glob("*.Dockerfile"))


def parsed(path: object) -> DockerfileParser:
    return DockerfileParser(path=str(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_stages_come_from_a_pinned_base(path: object) -> None:
    steps = parsed(path).structure
    assert [s["instruction"] for s in steps].count("FROM") == 2
    [base] = [s["value"] for s in steps if s["instruction"] == "ARG"]
    assert re.fullmatch(r"BASE=python:3\.11\.\d+-slim-\w+", base)
    bases = [s["value"] for s in steps if s["instruction"] == "FROM"]
    assert bases == ["${BASE} AS build", "${BASE}"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_installed_comes_from_the_lock(path: object) -> None:
    text = parsed(path).content
    kind = re.search(r"(\w+)\.Dockerfile$", str(path))
    assert kind is not None
    assert f"requirements/install.sh /opt/flora requirements/{kind[1]}.txt" in text
    assert "--no-deps --no-build-isolation ." in text
    assert "pip install" not in text.replace("uv pip install", "")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_user_is_the_one_of_the_manifests(path: object) -> None:
    users = [s["value"] for s in parsed(path).structure if s["instruction"] == "USER"]
    ours = [pod for pod in pods(build("gpu")) if not pod.owner.startswith("StatefulSet")]
    for pod in ours:
        context = pod.spec["securityContext"]
        assert users == [f"{context['runAsUser']}:{context['runAsGroup']}"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_everything_that_is_written_lies_on_a_volume(path: object) -> None:
    folders = [
        value for value in parsed(path).envs.values() if value.startswith("/") and ":" not in value
    ]
    assert "/cache" in folders
    for pod in pods(build("gpu")):
        if pod.owner.startswith("RayService"):
            written = {
                mount["mountPath"]
                for mount in pod.spec["containers"][0]["volumeMounts"]
                if not mount.get("readOnly")
            }
            assert {"/tmp", "/dev/shm", "/cache"} <= written
            assert [f for f in folders if not any(f.startswith(w) for w in written)] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_let_in(path: object) -> None:
    steps = [s["value"] for s in parsed(path).structure if s["instruction"] == "COPY"]
    assert steps == ["requirements requirements", ". .", "--from=build /opt/flora /opt/flora"]
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    assert all((ROOT / name).exists() for name in let_in)
    packages = {path.parent.name for path in ROOT.glob("*/py.typed")}
    assert packages <= set(let_in)
    assert lines[1] == "*"
    assert not any(fnmatch(".git", name) or fnmatch("models", name) for name in let_in)


def test_overlays_use_these_images() -> None:
    for overlay, kind in (("local", "cpu"), ("gpu", "cuda"), ("multi-model", "cuda")):
        images = {c["image"] for pod in pods(build(overlay)) for c in pod.containers}
        version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
        assert version is not None
        assert f"flora-serve:{version[1]}-{kind}" in images
        assert (K8S / f"{kind}.Dockerfile") in FILES
