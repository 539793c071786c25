"""The replica as a Ray Serve deployment: builds its parts in the replica's process."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from importlib.metadata import distributions

from ray import serve
from ray.exceptions import RayError
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import RayServeException

from adapter_cache.config import CacheConfig
from contracts.adapters import AdapterKey
from contracts.generation import GenerateRequest, StepMessage, StreamTicket
from contracts.replica import ReplicaInfo
from contracts.tracing import NO_TRACER, Tracer
from replicas.assembly import Assembly, make_engine, make_seats
from replicas.config import ReplicaConfig
from replicas.ray_scaling import LOAD, autoscaling
from replicas.warm_start import Share

logger = logging.getLogger(__name__)

StartTelemetry = Callable[[str], Tracer]
"""Called once in a process, with its name: starts its log and gives its tracer."""
OwnShare = Callable[[Sequence[AdapterKey], str, Sequence[str]], Sequence[AdapterKey]]
"""Those of some adapters that are one replica's, by its id and its peers'."""
_PEERS_TIMEOUT_S = 2.0
_CUDA_BUILD = "vllm"
"""The distribution that is; vLLM for CPUs is another one."""


def silent(_: str) -> Tracer:
    """No log of its own, and no traces."""
    return NO_TRACER


class ReplicaDeployment:
    """One engine per Serve replica. Serve sends traffic once `__init__` has returned."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self,
        config: ReplicaConfig,
        cache: CacheConfig,
        start_telemetry: StartTelemetry = silent,
        own_share: OwnShare | None = None,
    ) -> None:
        self._tracer = start_telemetry("replica")
        share = await find_share(own_share) if own_share else None
        self._assembly = Assembly(
            make_engine(config), cache, config.fair_limits, self._tracer, share, make_seats(config)
        )
        self._replica = self._assembly.replica
        info = await self._replica.start()
        logger.info("replica ready: %s, %d slots", info.model, info.num_slots)

    async def share(
        self, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncGenerator[StepMessage]:
        """See Replica.share."""
        stream = self._replica.share(requests, ticket)
        try:
            async for message in stream:
                yield message
        finally:
            await stream.aclose()

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        await self._replica.cancel(request_ids)

    async def describe(self) -> ReplicaInfo:
        return await self._replica.describe()

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        await self._replica.prefetch(keys)

    async def name(self) -> str:
        """This replica's id, for its peers."""
        return _own_id()

    async def record_routing_stats(self) -> dict[str, bytes]:
        """Serve asks every second, and tells the doors."""
        return (await self._replica.report()).to_stats()

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Serve asks every second, and decides how many replicas there should be."""
        return {LOAD: float(self._replica.load_tokens)}

    async def metrics(self) -> tuple[str, bytes]:
        """This replica's id, and what it counts in the form that Prometheus scrapes."""
        return _own_id(), await self._assembly.metrics.render()

    async def check_health(self) -> None:
        await self._replica.check()

    async def __del__(self) -> None:
        await self._assembly.close()
        await asyncio.to_thread(self._tracer.close)


def _own_id() -> str:
    own_id: str = serve.get_replica_context().replica_id.unique_id
    return own_id


async def find_share(own_share: OwnShare) -> Share:
    """What a replica that starts now is to warm, by who is there already."""
    context = serve.get_replica_context()
    handle = serve.get_deployment_handle(context.deployment, context.app_name)
    try:
        async with asyncio.timeout(_PEERS_TIMEOUT_S):
            answers = await handle.broadcast("name").results_async(return_exceptions=True)
    except (RayError, RayServeException, TimeoutError):
        answers = []
    peers = [answer for answer in answers if isinstance(answer, str)]
    return Share(len(peers) + 1, lambda keys: own_share(keys, _own_id(), peers))


def num_gpus_of(config: ReplicaConfig) -> float:
    """What Ray reserves for a replica; it hides all GPUs from one that asks for none."""
    if config.num_gpus is not None:
        return config.num_gpus
    if config.engine == "echo" or not list(distributions(name=_CUDA_BUILD)):
        return 0.0
    return float(config.tensor_parallel_size)


def replica_app(
    config: ReplicaConfig,
    cache: CacheConfig,
    start_telemetry: StartTelemetry = silent,
    router: RequestRouterConfig | None = None,
    own_share: OwnShare | None = None,
    *,
    name: str = "replica",
) -> serve.Application:
    """The replica deployment with its settings, to be bound to the door.

    `router` is how doors find a replica; None for Serve's own way. `own_share` says which adapters
    a new replica warms; None for all. `name` is the deployment's.
    """
    scaling = config.scaling
    elastic = autoscaling(scaling)
    deployment = serve.deployment(
        ReplicaDeployment,
        name=name,
        num_replicas=None if elastic else config.num_replicas,
        autoscaling_config=elastic,
        request_router_config=router or RequestRouterConfig(),
        health_check_period_s=scaling.health_check_period_s,
        health_check_timeout_s=scaling.health_check_timeout_s,
        # A group call is one Serve request, however many it carries: never queue them here.
        max_ongoing_requests=4096,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": num_gpus_of(config)},
        max_constructor_retry_count=2,
        graceful_shutdown_timeout_s=scaling.drain_s,
        graceful_shutdown_wait_loop_s=0.5,
    )
    return deployment.bind(config, cache, start_telemetry, own_share)
