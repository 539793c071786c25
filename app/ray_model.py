"""One base model of an ingress process, over its own deployment of replicas."""

import time
from dataclasses import dataclass, field
from random import Random
from typing import Any, Self

from ray.serve.handle import DeploymentHandle

from adapter_cache.registry_guard import Guard
from app.config import Settings, TuningSettings, WindowSettings
from app.door_metrics import DoorMetrics
from app.door_telemetry import DoorTelemetry
from app.gather import Gather, GatherLimits, WindowTuning
from app.model_config import ModelConfig
from app.own_adapters import OwnAdapters
from app.prompts import Prompts
from app.quotas import Quotas
from app.ray_bell import BatchBell
from app.ray_dispatcher import RayDispatcher
from app.routing_metrics import RoutingMetrics
from app.served_model import Bases, ServedModel
from app.shaping import make_grammars, make_speech, make_tools
from app.waiting_room import RoomLimits
from app.window import Resolver, Window
from routing.chooser import ReplicaChooser
from routing.members import members_of
from routing.policy import two_of


@dataclass(frozen=True, slots=True)
class SharedParts:
    """What the models of a door have in common. `bases` fills as replicas tell what they run."""

    names: Resolver
    guard: Guard
    quotas: Quotas
    telemetry: DoorTelemetry
    metrics: DoorMetrics
    routing_metrics: RoutingMetrics
    bases: Bases = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RayModel:
    """What a model has alone, from its way in to the way to its replicas."""

    served: ServedModel
    window: Window
    gather: Gather
    dispatcher: RayDispatcher

    @classmethod
    async def start(
        cls,
        settings: Settings,
        model: ModelConfig,
        replica: "DeploymentHandle[Any]",
        shared: SharedParts,
    ) -> Self:
        """Loads the tokenizer and what reads tools; `replica` may still be on its way."""
        dispatcher = make_dispatcher(settings, replica, shared)
        is_one_of_many = len(settings.served_models) > 1
        window = Window(
            OwnAdapters(shared.names, model.name, shared.bases) if is_one_of_many else shared.names,
            dispatcher,
            store_timeout_s=settings.window.store_timeout_s,
            guard=shared.guard,
            metrics=shared.metrics,
            quotas=shared.quotas,
            observers=shared.telemetry.observers,
            spans=shared.telemetry.spans,
        )
        gather = make_gather(window, settings.window)
        prompts = Prompts.load(model.model)
        served = ServedModel(
            model.name,
            dispatcher=dispatcher,
            prompts=prompts,
            gather=gather,
            bases=shared.bases,
            grammars=make_grammars(model, settings.server),
            tools=await make_tools(model, settings.server, prompts),
            speech=make_speech(model, prompts),
        )
        return cls(served, window, gather, dispatcher)

    async def aclose(self) -> None:
        """End what runs, from the way in to the replicas."""
        self.gather.aclose()
        await self.window.aclose()
        await self.dispatcher.aclose()
        await self.served.aclose()


def make_dispatcher(
    settings: Settings, replica: "DeploymentHandle[Any]", shared: SharedParts
) -> RayDispatcher:
    """The way to `replica`; what happens on it is counted."""
    members = members_of(replica.deployment_name)
    draw = two_of(Random()) if settings.server.num_ingress_replicas > 1 else None
    return RayDispatcher(
        replica,
        ReplicaChooser(members, settings.routing, time.monotonic, draw),
        door=shared.metrics.door_id,
        limits=settings.failover,
        observer=shared.routing_metrics,
        on_message=shared.metrics.step_messages.inc,
    )


def make_gather(window: Window, settings: WindowSettings) -> Gather:
    """The way into `window`, by Ray Serve's batching."""
    room = RoomLimits(settings.max_waiting, settings.max_waiting_per_tenant)
    limits = GatherLimits(settings.max_running, room)
    return Gather(window, BatchBell(), window_tuning(settings), limits=limits)


def window_tuning(settings: TuningSettings) -> WindowTuning:
    """What of the window may change at run time."""
    return WindowTuning(settings.max_batch_size, settings.wait_s, settings.adaptive)
