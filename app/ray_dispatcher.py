"""The Dispatcher over a Ray Serve deployment."""

from collections.abc import AsyncIterator, Callable
from typing import Any

from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
)
from ray.serve.handle import DeploymentHandle

from app.shared_stream import SharedStream
from contracts.adapters import AdapterKey
from contracts.errors import EngineFailed, NotReady, Overloaded, ServingError
from contracts.generation import GenerateRequest, StepMessage, StreamTicket, TokenBatch
from contracts.replica import ReplicaInfo

_TABLE: tuple[tuple[type[Exception], type[ServingError], str], ...] = (
    (BackPressureError, Overloaded, "Too many requests are waiting for the engine."),
    (DeploymentUnavailableError, NotReady, "The engine is not running."),
    (ReplicaUnavailableError, NotReady, "The engine is not running."),
    (RayError, EngineFailed, "The engine was lost."),
    (RayServeException, EngineFailed, "The engine was lost."),
)


class RayDispatcher:
    """Sends groups to `replica`, whose methods are those of `ReplicaDeployment`.

    A cancel goes to every replica: ids are unique, an id that runs elsewhere is ignored, and it
    does not wait in the queue behind the requests that it is to end. A prefetch goes to every
    replica, too: which of them will serve the adapter is not known yet. See SharedStream for
    `door`, `shares` and `on_message`.
    """

    def __init__(
        self,
        replica: "DeploymentHandle[Any]",
        *,
        door: str = "",
        shares: bool = True,
        on_message: Callable[[], object] = lambda: None,
        cancel_timeout_s: float = 5.0,
        prefetch_timeout_s: float = 10.0,
        metrics_timeout_s: float = 0.5,
    ) -> None:
        self._replica = replica
        self._call = replica.options(method_name="share", stream=True)
        self._stream = SharedStream(self._share, door, shares=shares, on_message=on_message)
        self._describe = replica.options(method_name="describe")
        self._cancel_timeout_s = cancel_timeout_s
        self._prefetch_timeout_s = prefetch_timeout_s
        self._metrics_timeout_s = metrics_timeout_s

    def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        """See Dispatcher."""
        return self._stream.generate(requests)

    async def aclose(self) -> None:
        """Listen to no replica any more."""
        await self._stream.aclose()

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        """See Dispatcher."""
        try:
            await self._ask_all("cancel", request_ids, timeout_s=self._cancel_timeout_s)
        except (RayError, RayServeException, TimeoutError) as error:
            raise EngineFailed("The engine did not take the cancellation.") from error

    async def describe(self) -> ReplicaInfo:
        """See Dispatcher."""
        try:
            info: ReplicaInfo = await self._describe.remote()
        except (RayError, RayServeException) as error:
            raise translate(error) from error
        return info

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        """See Dispatcher."""
        try:
            await self._ask_all("prefetch", keys, timeout_s=self._prefetch_timeout_s)
        except (RayError, RayServeException, TimeoutError) as error:
            raise EngineFailed("The engine did not take the prefetch.") from error

    async def metrics(self) -> dict[str, bytes]:
        """See Dispatcher."""
        try:
            answers = await self._ask_all("metrics", timeout_s=self._metrics_timeout_s)
        except (RayError, RayServeException, TimeoutError):
            return {}
        return dict(answer for answer in answers if isinstance(answer, tuple))

    async def _share(
        self, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncIterator[StepMessage]:
        try:
            async for message in self._call.remote(requests, ticket):
                yield message
        except (RayError, RayServeException) as error:
            raise translate(error) from error

    async def _ask_all(self, method: str, *arguments: object, timeout_s: float) -> list[Any]:
        """The answer or the exception of each replica that runs now."""
        broadcast = self._replica.broadcast(method, *arguments)
        return list(await broadcast.results_async(timeout_s=timeout_s, return_exceptions=True))


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
