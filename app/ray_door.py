"""The ingress deployment: the HTTP application and its window, in a Ray Serve replica."""

import asyncio
import logging
import time
import uuid
from dataclasses import asdict
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from adapter_cache.registry_guard import Guard
from adapter_cache.remembering_registry import RememberingRegistry
from app.access_policy import is_loopback, keys_required, make_authoriser
from app.config import Settings, TuningSettings
from app.door import Door, DoorLimits
from app.door_metrics import DoorMetrics
from app.door_telemetry import DoorTelemetry
from app.grpc_calls import GrpcCalls
from app.grpc_door import GrpcDoor
from app.http_api import create_app
from app.quota_ledger import MemoryLedger
from app.quotas import Quotas
from app.ray_model import RayModel, SharedParts, window_tuning
from app.redis_quota import RedisLedger
from app.registry_rebuild import registry_guard
from app.routing_metrics import RoutingMetrics
from app.stores import Stores, open_stores
from contracts.errors import StoreUnavailable

_LOG = logging.getLogger(__name__)
_STOP_S = 3.0
_LEASE_SLACK_S = 5.0


@serve.ingress()
class RayDoor(GrpcDoor):
    """One ingress process. `replicas` are handles of a deployment a model, in the models' order."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: Settings, *replicas: "DeploymentHandle[Any]"
    ) -> None:
        self._stores = open_stores(settings.cache)
        self._cors_origins = settings.server.cors_origins
        await _require_safe_eviction(self._stores)
        metrics = DoorMetrics(serve.get_replica_context().replica_id.unique_id)
        self._telemetry = DoorTelemetry(settings, self._stores, metrics)
        guard = registry_guard(self._stores, metrics.registry_rebuilds.inc)
        self._guarding = asyncio.ensure_future(guard.run())
        self._names = make_names(settings, self._stores, guard)
        metrics.num_stale_answers = lambda: self._names.num_stale_answers
        self._quotas = make_quotas(settings, self._stores, metrics)
        shared = SharedParts(
            names=self._names,
            guard=guard,
            quotas=self._quotas,
            telemetry=self._telemetry,
            metrics=metrics,
            routing_metrics=RoutingMetrics(metrics.registry),
        )
        self._models = [
            await RayModel.start(settings, model, handle, shared)
            for model, handle in zip(settings.served_models, replicas, strict=True)
        ]
        self._door = Door(
            models=[model.served for model in self._models],
            store=self._stores.adapters,
            limits=door_limits(settings),
            metrics=metrics,
            clock=time.time,
            new_id=lambda: uuid.uuid4().hex,
            guard=guard,
            auth=make_authoriser(settings, self._stores, guard),
            access=self._telemetry.access,
            usage=self._telemetry.usage,
        )
        self._calls = GrpcCalls(self._door, near_only=is_loopback(settings.server.host))

    def __serve_build_asgi_app__(self) -> object:
        """Ray Serve asks for the application once the constructor has run."""
        return create_app(self._door, self._cors_origins)

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Ray Serve gives the deployment's `user_config`: TuningSettings, those that change.

        Raises ValueError for anything else, and then changes nothing.
        """
        before = self._models[0].gather.tuning
        tuning = window_tuning(TuningSettings(**(asdict(before) | user_config)))
        for model in self._models:
            model.gather.tune(tuning)

    async def __del__(self) -> None:
        self._guarding.cancel()
        await asyncio.gather(*(model.aclose() for model in self._models))
        await self._quotas.aclose()
        await self._names.close()
        await self._telemetry.aclose()
        await self._stores.close()


async def _require_safe_eviction(stores: Stores) -> None:
    """Refuse a server that would evict the registry. One that is away is asked by the guard."""
    try:
        await stores.clients.require_safe_eviction()
    except StoreUnavailable as error:
        _LOG.warning("starting without the adapter registry: %s", error)


def make_names(settings: Settings, stores: Stores, guard: Guard) -> RememberingRegistry:
    """The registry as the window asks it."""
    return RememberingRegistry(
        stores.registry,
        guard=guard,
        max_age_s=settings.cache.stale_max_s,
        # Before the window gives up: what is cut off from outside teaches it nothing.
        timeout_s=0.8 * settings.window.store_timeout_s,
    )


def make_quotas(settings: Settings, stores: Stores, metrics: DoorMetrics) -> Quotas:
    """Shared by all doors through the store; each by itself while that is away."""
    # A little longer than any request takes: what outlives it belongs to a door that died.
    lease_s = settings.server.request_timeout_s + _LEASE_SLACK_S
    ledger = RedisLedger(stores.trip, lease_s, settings.cache.key_prefix)
    return Quotas(ledger, MemoryLedger(lease_s), metrics=metrics)


def door_limits(settings: Settings) -> DoorLimits:
    """What the settings allow one request."""
    return DoorLimits(
        max_body_bytes=settings.server.max_body_bytes,
        request_timeout_s=settings.server.request_timeout_s,
        max_parallel_uploads=settings.upload.max_parallel,
        max_audio_bytes=settings.server.max_audio_bytes,
        max_parallel_clips=settings.server.max_parallel_clips,
        adapter=settings.upload.limits,
    )


def door_app(settings: Settings, *replicas: serve.Application) -> serve.Application:
    """The ingress over `replicas`, a deployment a model, ready for `serve.run`.

    Raises InvalidRequest for settings that would let everybody in: here, and not in a process that
    Serve would start again and again.
    """
    keys_required(settings)
    deployment = serve.deployment(
        RayDoor,
        name="door",
        num_replicas=settings.server.num_ingress_replicas,
        max_ongoing_requests=settings.server.max_ongoing_requests,
        max_constructor_retry_count=2,
        graceful_shutdown_timeout_s=_STOP_S,
        graceful_shutdown_wait_loop_s=0.2,
        ray_actor_options={"num_cpus": 0},
    )
    return deployment.bind(settings, *replicas)
