"""The replica as a Ray Serve deployment: builds its parts in the replica's process."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable

from ray import serve

from adapter_cache.config import CacheConfig
from contracts.adapters import AdapterKey
from contracts.generation import GenerateRequest, StepMessage, StreamTicket
from contracts.replica import ReplicaInfo
from contracts.tracing import NO_TRACER, Tracer
from replicas.assembly import Assembly, make_engine
from replicas.config import ReplicaConfig

logger = logging.getLogger(__name__)

StartTelemetry = Callable[[str], Tracer]
"""Called once in a process, with its name: starts its log and gives its tracer."""


def silent(_: str) -> Tracer:
    """No log of its own, and no traces."""
    return NO_TRACER


class ReplicaDeployment:
    """One engine per Serve replica. Serve sends traffic once `__init__` has returned."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ReplicaConfig, cache: CacheConfig, start_telemetry: StartTelemetry = silent
    ) -> None:
        self._tracer = start_telemetry("replica")
        self._assembly = Assembly(make_engine(config), cache, config.fair_limits, self._tracer)
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

    async def metrics(self) -> tuple[str, bytes]:
        """This replica's id, and what it counts in the form that Prometheus scrapes."""
        replica_id: str = serve.get_replica_context().replica_id.unique_id
        return replica_id, await self._assembly.metrics.render()

    async def check_health(self) -> None:
        await self._replica.check()

    async def __del__(self) -> None:
        await self._assembly.close()
        await asyncio.to_thread(self._tracer.close)


def replica_app(
    config: ReplicaConfig, cache: CacheConfig, start_telemetry: StartTelemetry = silent
) -> serve.Application:
    """The replica deployment with its settings, to be bound to the door."""
    deployment = serve.deployment(
        ReplicaDeployment,
        name="replica",
        num_replicas=config.num_replicas,
        # A group call is one Serve request, however many it carries: never queue them here.
        max_ongoing_requests=4096,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
        max_constructor_retry_count=2,
        graceful_shutdown_timeout_s=5,
    )
    return deployment.bind(config, cache, start_telemetry)
