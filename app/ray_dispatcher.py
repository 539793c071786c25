"""The Dispatcher over a Ray Serve deployment whose replicas this door chooses itself."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from app.failover import Failover
from app.journey import FailoverLimits, FailoverObserver, NoObserver, Ways
from app.shared_stream import SharedStream
from contracts.adapters import AdapterKey
from contracts.errors import EngineFailed, NotReady, Overloaded, ServingError
from contracts.generation import GenerateRequest, StepMessage, StreamTicket, TokenBatch
from contracts.replica import ReplicaInfo, ReplicaReport
from routing.chooser import ReplicaChooser

_LOG = logging.getLogger(__name__)
_TABLE: tuple[tuple[type[Exception], type[ServingError], str], ...] = (
    (BackPressureError, Overloaded, "Too many requests are waiting for the engine."),
    (DeploymentUnavailableError, NotReady, "The engine is not running."),
    (ReplicaUnavailableError, NotReady, "The engine is not running."),
    (RayError, EngineFailed, "The engine was lost."),
    (RayServeException, EngineFailed, "The engine was lost."),
)
_MAX_HANDLES = 4096


class RayDispatcher:
    """Sends groups to `replica`, whose methods are those of `ReplicaDeployment`.

    `chooser` says which replica gets a request; see `Failover` for what happens when that is lost.
    `door` tells this process's calls from others', and `on_message` is called for each message.
    """

    def __init__(
        self,
        replica: "DeploymentHandle[Any]",
        chooser: ReplicaChooser,
        *,
        door: str = "",
        limits: FailoverLimits | None = None,
        observer: FailoverObserver | None = None,
        on_message: Callable[[], object] = lambda: None,
        call_timeout_s: float = 10.0,
        metrics_timeout_s: float = 0.5,
    ) -> None:
        self._replica = replica
        self._chooser = chooser
        self._describe = replica.options(method_name="describe")
        self._named: dict[str, DeploymentHandle[Any]] = {}
        self._call_timeout_s = call_timeout_s
        self._metrics_timeout_s = metrics_timeout_s
        self._on_message = on_message
        self._stream = SharedStream(self._share, door, self._heard)
        ways = Ways(
            self._stream,
            chooser,
            self._stop,
            limits or FailoverLimits(),
            observer or NoObserver(),
            time.monotonic,
        )
        self._failover = Failover(ways)
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._failover.watch())

    def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        """See Dispatcher."""
        return self._failover.generate(requests)

    async def aclose(self) -> None:
        """Listen to no replica any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stream.aclose()

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        """See Dispatcher."""
        self._failover.cancel(request_ids)

    async def describe(self) -> ReplicaInfo:
        """See Dispatcher."""
        try:
            info: ReplicaInfo = await self._describe.remote()
        except (RayError, RayServeException) as error:
            raise translate(error) from error
        return info

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        """See Dispatcher: to the replicas that will be asked for them."""
        homes = self._chooser.homes(keys).items()
        await asyncio.gather(*(self._ask(home, "prefetch", theirs) for home, theirs in homes))

    async def metrics(self) -> dict[str, bytes]:
        """See Dispatcher."""
        try:
            answers = await self._ask_all("metrics", timeout_s=self._metrics_timeout_s)
        except (RayError, RayServeException, TimeoutError):
            return {}
        return dict(answer for answer in answers if isinstance(answer, tuple))

    def reports(self) -> Mapping[str, ReplicaReport | None]:
        """See Dispatcher."""
        return self._chooser.reports()

    async def _share(
        self, replica_id: str, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncIterator[StepMessage]:
        call = self._handle(replica_id).options(method_name="share", stream=True)
        try:
            async for message in call.remote(requests, ticket):
                yield message
        except (RayError, RayServeException) as error:
            raise translate(error) from error

    def _heard(self, replica_id: str, load_tokens: int | None) -> None:
        self._on_message()
        self._failover.heard(replica_id, load_tokens)

    def _stop(self, replica_id: str, request_ids: tuple[str, ...]) -> None:
        self._spawn(self._cancel(replica_id, request_ids))

    async def _cancel(self, replica_id: str, request_ids: tuple[str, ...]) -> None:
        try:
            if replica_id in self._chooser.fleet:
                await self._ask(replica_id, "cancel", request_ids)
            else:
                # Serve has found another place for the call, or is about to.
                await self._ask_all("cancel", request_ids, timeout_s=self._call_timeout_s)
        except (RayError, RayServeException, ServingError, TimeoutError) as error:
            _LOG.warning("could not stop %d requests: %s", len(request_ids), error)

    async def _ask(self, replica_id: str, method: str, *arguments: object) -> None:
        call = getattr(self._handle(replica_id), method)
        try:
            async with asyncio.timeout(self._call_timeout_s):
                await call.remote(*arguments)
        except (RayError, RayServeException, TimeoutError) as error:
            raise EngineFailed(f"The engine did not take the {method}.") from error

    async def _ask_all(self, method: str, *arguments: object, timeout_s: float) -> list[Any]:
        """The answer or the exception of each replica that runs now."""
        broadcast = self._replica.broadcast(method, *arguments)
        return list(await broadcast.results_async(timeout_s=timeout_s, return_exceptions=True))

    def _handle(self, replica_id: str) -> "DeploymentHandle[Any]":
        """Calls through it go to that replica; see NamedReplicaRouter."""
        if replica_id not in self._named:
            if len(self._named) >= _MAX_HANDLES:
                self._named.clear()
            self._named[replica_id] = self._replica.options(session_id=replica_id)
        return self._named[replica_id]

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def translate(error: Exception) -> ServingError:
    """Ray's error as ours: what the replica raised, or what became of the replica."""
    if isinstance(error, RayTaskError):
        cause = error.cause
        if isinstance(cause, ServingError):
            return cause
        return EngineFailed(f"The engine failed ({type(cause).__name__}).")
    for kind, ours, message in _TABLE:
        if isinstance(error, kind):
            return ours(message)
    return EngineFailed("The engine failed.")
