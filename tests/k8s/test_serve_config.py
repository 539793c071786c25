"""What Ray Serve gets of an overlay: by its own schema, by our settings, and built for real."""

import re
from typing import Any

import pytest
from ray import serve
from ray.serve.schema import ServeDeploySchema

from app.access_policy import keys_required
from app.ray_app import application
from app.ray_cluster import grpc_options, quiet_logging
from app.serve_environment import cluster_environment
from tests.k8s.capacity import amount
from tests.k8s.manifests import (
    OVERLAYS,
    build,
    named,
    one,
    pods,
    ray_pod,
    serve_config,
    settings_arguments,
)
from tests.k8s.serving import REDIS_URL, environment, settings_of

pytestmark = pytest.mark.parametrize("overlay", OVERLAYS)


def bound(app: serve.Application) -> dict[str, Any]:
    """Every deployment of an application, by name."""
    door = app._bound_deployment
    replicas = [part._bound_deployment for part in door.init_args[1:]]
    return {deployment.name: deployment for deployment in (door, *replicas)}


def test_ray_serve_takes_it_and_knows_every_name(overlay: str) -> None:
    config = serve_config(build(overlay))
    schema = ServeDeploySchema(**config)
    assert config.keys() <= ServeDeploySchema.model_fields.keys()
    assert config["http_options"].keys() <= type(schema.http_options).model_fields.keys()
    assert config["grpc_options"].keys() <= type(schema.grpc_options).model_fields.keys()
    [app] = schema.applications
    assert config["applications"][0].keys() <= type(app).model_fields.keys()
    assert app.import_path == f"{application.__module__}:{application.__name__}"


def test_the_application_is_built_of_it(overlay: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = build(overlay)
    for name, value in {**environment(objects), "FLORA_CACHE__REDIS_URL": REDIS_URL}.items():
        monkeypatch.setenv(name, value)
    deployments = bound(application(settings_arguments(objects)))
    [told] = serve_config(objects)["applications"]
    assert {part["name"] for part in told["deployments"]} <= deployments.keys()
    assert len(deployments) == 1 + len(settings_of(objects).served_models)


def test_the_front_listens_where_the_settings_say(overlay: str) -> None:
    objects = build(overlay)
    config, settings = serve_config(objects), settings_of(objects)
    http = config["http_options"]
    assert (http["host"], http["port"]) == (settings.server.host, settings.server.port)
    assert config["grpc_options"] == grpc_options(settings.server)
    assert keys_required(settings) is True
    quiet = quiet_logging(settings)
    assert config["logging_config"] == {
        "encoding": quiet.encoding,
        "log_level": quiet.log_level,
        "enable_access_log": quiet.enable_access_log,
    }
    ports = {
        p["name"]: p["containerPort"] for p in ray_pod(objects, "ingress").containers[1]["ports"]
    }
    assert (ports["serve"], ports["serve-grpc"]) == (
        settings.server.port,
        settings.server.grpc_port,
    )


def test_ray_is_told_what_a_server_on_one_machine_tells_it(overlay: str) -> None:
    objects = build(overlay)
    server, told = settings_of(objects).server, environment(objects)
    threads = int(told["RAY_SERVE_HAPROXY_NBTHREAD"])
    assert (
        cluster_environment(
            threads, server.request_timeout_s, server.grpc_max_message_bytes
        ).items()
        == {n: v for n, v in told.items() if not n.startswith("FLORA_")}.items()
    )
    cpus = amount(ray_pod(build("gpu"), "ingress").containers[1]["resources"]["requests"]["cpu"])
    assert threads == cpus


def test_each_ingress_process_has_a_pod_and_engines_find_theirs(overlay: str) -> None:
    objects = build(overlay)
    cluster = one(objects, "RayService", "flora")["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group["resources"] for group in cluster["workerGroupSpecs"]}
    [told] = serve_config(objects)["applications"]
    [door] = [part for part in told["deployments"] if part["name"] == "door"]
    asked = door["ray_actor_options"]
    assert asked["resources"] == {"ingress": float(groups["ingress"]["ingress"])}
    assert asked["num_cpus"] <= float(groups["ingress"]["CPU"])
    assert cluster["headGroupSpec"]["resources"] == {"CPU": "0"}
    for model in settings_of(objects).served_models:
        assert model.num_cpus <= float(groups["engine"]["CPU"])
        assert (model.num_gpus or 0) <= float(groups["engine"].get("GPU", 0))
        # Neither the head nor the ingress may be where an engine fits.
        assert model.num_cpus > float(groups["ingress"]["CPU"])
        assert model.num_cpus > 0


def test_models_are_where_the_job_puts_them(overlay: str) -> None:
    objects = build(overlay)
    listed = named(objects, "ConfigMap", "models")["data"]["MODELS"].split()
    folders = {f"/models/{pair.partition('=')[0]}" for pair in listed}
    assert {model.model for model in settings_of(objects).served_models} == folders
    command = one(objects, "Job", "prepare-models")["spec"]["template"]["spec"]["containers"][0]
    given = [word for word in command["command"] if re.fullmatch(r"/models/[\w.-]+", word)]
    assert set(given) in (set(), folders)
    for group in ("ingress", "engine"):
        mounts = {
            m["mountPath"] for m in ray_pod(objects, group).spec["containers"][0]["volumeMounts"]
        }
        assert {"/models", "/tmp", "/cache", "/dev/shm"} <= mounts


def test_a_folder_of_adapters_is_mounted_where_it_is_read_and_written(overlay: str) -> None:
    objects = build(overlay)
    url = settings_of(objects).cache.object_store_url
    assert re.match(r"(file|s3|gs)://", url)
    if url.startswith("file://"):
        for group in ("ingress", "engine"):
            mounts = ray_pod(objects, group).spec["containers"][0]["volumeMounts"]
            assert url.removeprefix("file://") in {mount["mountPath"] for mount in mounts}


def test_requests_have_their_time_and_uploads_their_room_everywhere(overlay: str) -> None:
    objects = build(overlay)
    settings = settings_of(objects)
    time_s = settings.server.request_timeout_s
    upload = settings.upload.limits.max_file_bytes + settings.upload.limits.max_config_bytes
    assert one(objects, "RayService", "flora")["spec"]["rayClusterDeletionDelaySeconds"] > time_s
    for found in objects:
        if found["kind"] == "HTTPRoute":
            [rule] = found["spec"]["rules"]
            assert float(rule["timeouts"]["request"].removesuffix("s")) > time_s
        if found["kind"] == "Ingress":
            told = {k.rpartition("/")[2]: v for k, v in found["metadata"]["annotations"].items()}
            assert float(told["proxy-read-timeout"]) > time_s
            assert float(told["proxy-body-size"].removesuffix("m")) * 1024**2 > upload
    for pod in pods(objects):
        assert pod.spec.get("terminationGracePeriodSeconds", 30) >= 30
