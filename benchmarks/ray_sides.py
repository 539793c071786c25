"""Ways to bring a request to one of several replicas: this project's, and Ray Serve's."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol

from ray.serve.config import RequestRouterConfig
from ray.serve.handle import DeploymentHandle

from app.ray_dispatcher import RayDispatcher
from contracts.generation import GenerateRequest, StreamTicket, TokenDelta
from routing.chooser import ReplicaChooser
from routing.config import RoutingConfig
from routing.members import members_of

WINDOW_S = 0.002
_ROUTERS = {
    "flora": "routing.ray_router.NamedReplicaRouter",
    "hash": "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter",
    "robin": "ray.serve.experimental.round_robin_router.RoundRobinRouter",
}
SIDES = ("flora", "pow2", "multiplex", "hash", "robin")

Hear = Callable[[TokenDelta], None]


class Side(Protocol):
    """One way. Asks may be made at the same time."""

    async def ask(self, request: GenerateRequest, hear: Hear) -> None:
        """Send a request and tell `hear` what comes, until it is over."""
        ...

    async def aclose(self) -> None:
        """Let go."""
        ...


def router_of(side: str) -> RequestRouterConfig | None:
    """What Serve is told; None: its power-of-two router, which knows multiplexed models too."""
    if side not in _ROUTERS:
        return None
    return RequestRouterConfig(
        request_router_class=_ROUTERS[side],
        request_routing_stats_period_s=1.0,
        request_routing_stats_timeout_s=10.0,
    )


def make_side(name: str, handle: "DeploymentHandle[Any]") -> Side:
    """By its name; to be called in an event loop."""
    return FloraSide(handle) if name == "flora" else ServeSide(name, handle)


class FloraSide:
    """As the door does it: windows, each placed as a whole, and one stream a replica."""

    def __init__(self, handle: "DeploymentHandle[Any]") -> None:
        members = members_of(handle.deployment_name)
        chooser = ReplicaChooser(members, RoutingConfig(), time.monotonic)
        self._dispatcher = RayDispatcher(handle, chooser, door="benchmark")
        self._window: list[tuple[GenerateRequest, Hear, asyncio.Future[None]]] = []
        self._followers: set[asyncio.Task[None]] = set()

    async def ask(self, request: GenerateRequest, hear: Hear) -> None:
        """See Side."""
        loop = asyncio.get_running_loop()
        is_over: asyncio.Future[None] = loop.create_future()
        self._window.append((request, hear, is_over))
        if len(self._window) == 1:
            loop.call_later(WINDOW_S, self._open)
        await is_over

    async def aclose(self) -> None:
        """See Side."""
        await self._dispatcher.aclose()

    def _open(self) -> None:
        follower = asyncio.ensure_future(self._follow())
        self._followers.add(follower)
        follower.add_done_callback(self._followers.discard)

    async def _follow(self) -> None:
        window, self._window = self._window, []
        try:
            async for batch in self._dispatcher.generate(tuple(entry[0] for entry in window)):
                for delta in batch.deltas:
                    _, hear, is_over = window[delta.index]
                    hear(delta)
                    if delta.finish_reason is not None or delta.error is not None:
                        is_over.set_result(None)
        finally:
            for _, _, is_over in window:
                if not is_over.done():
                    is_over.set_exception(RuntimeError("a request has no end"))


class ServeSide:
    """A call a request, and Serve finds the replica."""

    def __init__(self, name: str, handle: "DeploymentHandle[Any]") -> None:
        self._option = {"multiplex": "multiplexed_model_id", "hash": "session_id"}.get(name)
        self._handle = handle.options(method_name="share", stream=True)
        self._handles: dict[str, DeploymentHandle[Any]] = {}

    async def ask(self, request: GenerateRequest, hear: Hear) -> None:
        """See Side."""
        ticket = StreamTicket(request.request_id, 0)
        handle = self._handle_for(request.adapter.digest)
        async for message in handle.remote((request,), ticket):
            for part in message.parts:
                for delta in part.deltas:
                    hear(delta)

    async def aclose(self) -> None:
        """See Side."""

    def _handle_for(self, digest: str) -> "DeploymentHandle[Any]":
        """Calls for that adapter go through it."""
        if self._option is None:
            return self._handle
        if digest not in self._handles:
            self._handles[digest] = self._handle.options(**{self._option: digest})
        return self._handles[digest]
