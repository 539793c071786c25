"""Replicas on this machine under a router of one's choice, without a door; they count for it."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray import serve
from ray.serve.config import ProxyLocation, RequestRouterConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from adapter_cache.config import CacheConfig
from contracts.adapters import AdapterKey
from contracts.generation import GenerateRequest, StepMessage, StreamTicket
from replicas.config import ReplicaConfig
from replicas.ray_deployment import ReplicaDeployment

NODE_ROWS = 32
"""Adapters that one replica's node cache has room for."""
SAMPLES_PER_S = 10
_OBJECT_STORE_BYTES = 256 * 1024**2
_ANSWER_S = 30.0
_LOGGING = LoggingConfig(log_level="WARNING", enable_access_log=False)


@dataclass
class Counts:
    """What one replica has seen since it was asked last; slots since its start.

    A node hit is a request that finds its adapter on the node as it comes. `loads` are tokens left
    to do, by tenth of a second of the machine's monotonic clock.
    """

    replica_id: str = ""
    num_requests: int = 0
    node_hits: int = 0
    slot_hits: int = 0
    slot_misses: int = 0
    loads: dict[int, int] = field(default_factory=dict)


class CountingReplica(ReplicaDeployment):
    """A replica with a node cache of its own, as if it had a machine of its own."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ReplicaConfig, cache: CacheConfig
    ) -> None:
        own = serve.get_replica_context().replica_id.unique_id
        self._id, self._folder = own, cache.node_cache_dir / own
        self._counts = Counts()
        await super().__init__(config, replace(cache, node_cache_dir=self._folder))
        self._sampling = asyncio.ensure_future(self._sample())

    async def share(
        self, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncGenerator[StepMessage]:
        """See Replica.share."""
        self._counts.num_requests += len(requests)
        self._counts.node_hits += sum((self._folder / r.adapter.digest).exists() for r in requests)
        await self._prepare(requests)
        async for message in super().share(requests, ticket):
            yield message

    async def counts(self) -> Counts:
        """What was counted, which begins anew."""
        slots = await self._replica.slots()
        found, self._counts = self._counts, Counts()
        return replace(found, replica_id=self._id, slot_hits=slots.hits, slot_misses=slots.misses)

    async def _prepare(self, requests: tuple[GenerateRequest, ...]) -> None:
        """Called before requests reach the replica, once they are counted."""

    async def _sample(self) -> None:
        while True:
            self._counts.loads[int(time.monotonic() * SAMPLES_PER_S)] = self._replica.load_tokens
            await asyncio.sleep(1 / SAMPLES_PER_S)

    async def __del__(self) -> None:
        self._sampling.cancel()
        await super().__del__()


class MultiplexedReplica(CountingReplica):
    """Tells Serve which adapters it has loaded, by Serve's own means: those on its node."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ReplicaConfig, cache: CacheConfig
    ) -> None:
        self._keys: dict[str, AdapterKey] = {}
        await super().__init__(config, cache)

    async def _prepare(self, requests: tuple[GenerateRequest, ...]) -> None:
        for request in requests:
            self._keys[request.adapter.digest] = request.adapter
            await self.load(request.adapter.digest)

    @serve.multiplexed(max_num_models_per_replica=NODE_ROWS)  # type: ignore[untyped-decorator]
    async def load(self, digest: str) -> str:
        """Bring an adapter to the node."""
        await self._replica.prefetch((self._keys[digest],))
        return digest


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """So many replicas with these settings; Serve finds one by `router`, None for its own way."""

    name: str
    num_replicas: int
    config: ReplicaConfig
    cache: CacheConfig
    router: RequestRouterConfig | None = None
    is_multiplexed: bool = False


@contextmanager
def local_serve(num_cpus: int) -> Iterator[None]:
    """Ray Serve on this machine, without any front."""
    # Ray's workers give way to every other process (niceness 15); here they are the server.
    os.environ.setdefault("RAY_worker_niceness", "0")
    ray.init(
        address="local",
        num_cpus=num_cpus,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(proxy_location=ProxyLocation.Disabled, logging_config=_LOGGING)
        yield
    finally:
        ray.shutdown()


@contextmanager
def fleet(plan: FleetPlan) -> Iterator["DeploymentHandle[Any]"]:
    """Running replicas. Raises RuntimeError where they do not start."""
    deployment = serve.deployment(
        MultiplexedReplica if plan.is_multiplexed else CountingReplica,
        name=f"replica-{plan.name}",
        num_replicas=plan.num_replicas,
        request_router_config=plan.router or RequestRouterConfig(),
        max_ongoing_requests=4096,
        ray_actor_options={"num_cpus": 0.1},
        graceful_shutdown_timeout_s=5,
    )
    application = deployment.bind(plan.config, plan.cache)
    handle = serve.run(application, name=plan.name, route_prefix=None, logging_config=_LOGGING)
    try:
        yield handle
    finally:
        serve.delete(plan.name)


async def ask_counts(handle: "DeploymentHandle[Any]") -> list[Counts]:
    """What each replica has counted, always in one order; they begin anew."""
    found: list[Counts] = await handle.broadcast("counts").results_async(timeout_s=_ANSWER_S)
    return sorted(found, key=lambda counts: counts.replica_id)
