"""Commands, probes and options in manifests exist in what the images hold, and scripts work."""

import re
import subprocess
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path

import pytest
import typer.main
from huggingface_hub.cli.download import download
from ray._private.ray_constants import DEFAULT_DASHBOARD_AGENT_LISTEN_PORT
from ray.dashboard.http_server_agent import PUBLIC_EXACT_PATHS
from ray.scripts.scripts import cli as ray_cli
from ray.serve._private.haproxy import HAProxyConfig

from app.cli import app
from tests.k8s.manifests import OVERLAYS, Manifest, build, one, pods, ray_pod, serve_config
from tests.k8s.serving import environment


def containers(overlay: str) -> Iterator[tuple[str, Manifest]]:
    return ((pod.owner, container) for pod in pods(build(overlay)) for container in pod.containers)


def commands(overlay: str) -> Iterator[list[str]]:
    """Whatever is run in a container, as a list of words."""
    for _, container in containers(overlay):
        if "command" in container:
            yield container["command"]
        for hook in container.get("lifecycle", {}).values():
            yield hook["exec"]["command"]
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "exec" in container.get(name, {}):
                yield container[name]["exec"]["command"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_program_is_known(overlay: str) -> None:
    programs = {command[0] for command in commands(overlay)}
    assert programs <= {"flora", "bash", "sh", "valkey-server"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_our_own_commands_exist(overlay: str) -> None:
    for command in commands(overlay):
        if command[0] == "flora":
            found = typer.main.get_command(app)
            for word in command[1:-1]:
                found = found.commands[word]  # type: ignore[attr-defined]
            assert found.name == "prepare"
            assert len(found.params) == 1


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_scripts_are_shell_and_call_ray_as_it_is(overlay: str) -> None:
    for command in commands(overlay):
        if command[0] in ("bash", "sh"):
            checked = subprocess.run([command[0], "-n", "-c", command[-1]], capture_output=True)
            assert checked.returncode == 0, checked.stderr
            for call in re.findall(r"\bray (\w+)((?: --[\w-]+ \w+)*)", command[-1]):
                options = {o for p in ray_cli.commands[call[0]].params for o in p.opts}
                assert set(re.findall(r"--[\w-]+", call[1])) <= options


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_knows_what_it_is_started_with(overlay: str) -> None:
    cluster = one(build(overlay), "RayService", "flora")["spec"]["rayClusterConfig"]
    options = {o for p in ray_cli.commands["start"].params for o in p.opts}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert {f"--{name}" for name in group["rayStartParams"]} <= options
    version = import_module("ray").__version__
    assert cluster["rayVersion"] == version


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_probes_ask_what_ray_answers(overlay: str) -> None:
    node = {(path, DEFAULT_DASHBOARD_AGENT_LISTEN_PORT) for path in PUBLIC_EXACT_PATHS}
    proxy = {(HAProxyConfig(http_options=None).health_check_endpoint, "serve")}
    for owner, container in containers(overlay):
        asked = {
            (probe["httpGet"]["path"], probe["httpGet"]["port"])
            for probe in (container.get("livenessProbe", {}), container.get("readinessProbe", {}))
            if "httpGet" in probe
        }
        assert asked <= node | proxy, owner
        names = {port["name"] for port in container.get("ports", [])}
        assert {port for _, port in asked if isinstance(port, str)} <= names


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_import_paths_lead_somewhere(overlay: str) -> None:
    objects = build(overlay)
    config = serve_config(objects)
    paths = [app["import_path"] for app in config["applications"]]
    servicers = config["grpc_options"]["grpc_servicer_functions"]
    paths += [":".join(path.rsplit(".", 1)) for path in servicers]
    paths += [v for n, v in environment(objects).items() if n.endswith("_IMPORT_PATH")]
    for path in paths:
        module, name = path.split(":")
        assert callable(getattr(import_module(module), name)), path


def run(
    script: str, models: str, tmp_path: Path, stub: str, limit_s: float = 20.0
) -> "subprocess.CompletedProcess[str]":
    """A script of the manifests, with `hf` replaced by `stub` and /models by a folder."""
    programs = tmp_path / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "hf").write_text(f"#!/bin/bash\n{stub}\n")
    (programs / "hf").chmod(0o755)
    return subprocess.run(
        ["bash", "-euc", script.replace("/models/", f"{tmp_path}/models/")],
        env={"PATH": f"{programs}:/usr/bin:/bin", "MODELS": models},
        capture_output=True,
        text=True,
        timeout=limit_s,
    )


def test_models_are_fetched_whole_or_not_at_all_and_once(tmp_path: Path) -> None:
    objects = build("multi-model")
    [job] = [pod for pod in pods(objects) if pod.owner == "Job prepare-models"]
    script = job.containers[0]["command"][-1]
    models = tmp_path / "models"
    models.mkdir()
    write = 'mkdir -p "$4" && echo "$2" >"$4/config.json" && echo "$2" >>' + f"{tmp_path}/asked"
    broken = run(script, "a=Org/A", tmp_path, f"{write}; exit 1")
    assert broken.returncode != 0
    assert not (models / "a").exists()
    assert run(script, "a=Org/A b=Org/B", tmp_path, write).returncode == 0
    assert run(script, "a=Org/A b=Org/B", tmp_path, write).returncode == 0
    assert (models / "b" / "config.json").read_text() == "Org/B\n"
    assert (tmp_path / "asked").read_text().split() == ["Org/A", "Org/A", "Org/B"]
    assert sorted(path.name for path in models.iterdir()) == ["a", "b"]


def test_engines_wait_for_all_models(tmp_path: Path) -> None:
    script = ray_pod(build("multi-model"), "engine").containers[0]["command"][-1]
    (tmp_path / "models" / "a").mkdir(parents=True)
    (tmp_path / "models" / "a" / "config.json").touch()
    assert run(script, "a=Org/A", tmp_path, "").returncode == 0
    with pytest.raises(subprocess.TimeoutExpired):
        run(script, "a=Org/A b=Org/B", tmp_path, "", limit_s=0.5)


def test_the_hub_client_takes_the_options_of_the_job() -> None:
    assert "local_dir" in signature(download).parameters
    assert [point.load() for point in entry_points(group="console_scripts", name="hf")]
