"""What happens to the requests that arrived together. Knows nothing of HTTP or of Ray.

    asks of one window --> one store.resolve --> one group --> one step stream --> TokenStreams

`plan_window` decides, `Window` acts. Who is "together" is settled before: by `@serve.batch` in
`ray_door.py`, by `LocalGather` in `gather.py`.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from adapter_cache.registry_guard import AlwaysWhole, Guard
from app.dispatcher import Dispatcher
from app.door_metrics import DoorMetrics
from app.model_name import unknown_model
from app.prefetch import Prefetcher
from app.token_stream import TokenStream
from contracts.access import LOCAL_CALLER, Caller
from contracts.adapters import BASE, AdapterKey, AdapterRef
from contracts.errors import EngineFailed, ServingError, StoreUnavailable, UnknownModel
from contracts.generation import GenerateRequest, Sampling, TokenBatch

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ask:
    """One prompt as the door admitted it. `adapter` is None for the base model.

    `model` is the name that the caller used, for messages.
    """

    request_id: str
    model: str
    adapter: AdapterRef | None
    prompt_token_ids: tuple[int, ...]
    sampling: Sampling
    caller: Caller = LOCAL_CALLER


class Resolver(Protocol):
    """The one method of the adapter store that a window calls."""

    async def resolve(
        self, refs: Sequence[AdapterRef]
    ) -> Sequence[AdapterKey | StoreUnavailable | None]:
        """Keys of `refs`, in their order; None where an adapter is unknown, the error where nobody
        can say now. Raises StoreUnavailable when that is so for all of them.
        """
        ...


Found = Mapping[AdapterRef, AdapterKey | StoreUnavailable | None] | ServingError
"""What the store knows of each ref, or how it failed to answer."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """Each of `groups` is one call to a replica; `refused` pairs a request id with its error."""

    groups: tuple[tuple[GenerateRequest, ...], ...]
    refused: tuple[tuple[str, ServingError], ...]


def plan_window(asks: Sequence[Ask], found: Found) -> WindowPlan:
    """Who goes together and who is refused.

    All that can run is one group, whatever mixture of adapters it holds.
    """
    group: list[GenerateRequest] = []
    refused: list[tuple[str, ServingError]] = []
    for ask in asks:
        key = _key_of(ask, found)
        if isinstance(key, ServingError):
            refused.append((ask.request_id, key))
        else:
            group.append(_request(ask, key))
    return WindowPlan((tuple(group),) if group else (), tuple(refused))


def _request(ask: Ask, key: AdapterKey) -> GenerateRequest:
    return GenerateRequest(
        ask.request_id,
        key,
        ask.prompt_token_ids,
        ask.sampling,
        ask.caller.tenant,
        ask.caller.weight,
    )


def _key_of(ask: Ask, found: Found) -> AdapterKey | ServingError:
    if ask.adapter is None:
        return BASE
    if isinstance(found, ServingError):
        return found
    key = found.get(ask.adapter)
    return unknown_model(ask.model) if key is None else key


class Window:
    """Opens a TokenStream for each ask and sees to it that each one ends.

    `store_timeout_s` bounds a resolve; `base_wait_s` is how long base-model requests wait for
    their neighbours' adapters before they go ahead as a group of their own, so that a slow store
    costs them at most that. `guard` is asked before a name is called unknown. Replicas that the
    group does not go to hear through `prefetcher`, if there is one, which adapters are in use.
    """

    def __init__(
        self,
        store: Resolver,
        dispatcher: Dispatcher,
        *,
        store_timeout_s: float,
        base_wait_s: float = 0.005,
        guard: Guard | None = None,
        prefetcher: Prefetcher | None = None,
        metrics: DoorMetrics | None = None,
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._guard = guard or AlwaysWhole()
        self._prefetcher = prefetcher
        self._store_timeout_s = store_timeout_s
        self._base_wait_s = base_wait_s
        self.metrics = metrics or DoorMetrics()
        self.metrics.running.set_function(lambda: len(self._running))
        self._tasks: set[asyncio.Task[None]] = set()
        self._running: dict[str, TokenStream] = {}

    def __repr__(self) -> str:
        return f"Window(running={len(self._running)}, tasks={len(self._tasks)})"

    @property
    def num_running(self) -> int:
        """Requests whose stream has not ended."""
        return len(self._running)

    def open(self, asks: Sequence[Ask]) -> list[TokenStream]:
        """One stream per ask, in order, before anything is awaited: errors come through them."""
        self.metrics.windows.inc()
        self.metrics.requests.inc(len(asks))
        streams = [TokenStream(a.request_id, a.sampling.n, self._cancel) for a in asks]
        self._running.update(zip([a.request_id for a in asks], streams, strict=True))
        self._spawn(self._serve(asks))
        return streams

    async def aclose(self) -> None:
        """Fail what still runs and wait until no task of the window is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for request_id in tuple(self._running):
            self._fail(request_id, EngineFailed("The server is stopping."))

    async def _serve(self, asks: Sequence[Ask]) -> None:
        refs = tuple({ask.adapter: None for ask in asks if ask.adapter is not None})
        if not refs:
            await self._run(plan_window(asks, {}))
            return
        base = [ask for ask in asks if ask.adapter is None]
        resolving = asyncio.ensure_future(self._resolve(refs))
        if base and not (await asyncio.wait({resolving}, timeout=self._base_wait_s))[0]:
            self._spawn(self._run(plan_window(base, {})))
            asks = [ask for ask in asks if ask.adapter is not None]
        await self._run(plan_window(asks, await resolving))

    async def _resolve(self, refs: Sequence[AdapterRef]) -> Found:
        try:
            async with asyncio.timeout(self._store_timeout_s):
                with self.metrics.resolve_seconds.time():
                    return dict(zip(refs, await self._store.resolve(refs), strict=True))
        except ServingError as error:
            return error
        except TimeoutError:
            return StoreUnavailable("The adapter registry did not answer in time.")
        except Exception:
            _LOG.exception("resolve failed")
            return StoreUnavailable("The adapter registry failed.")

    async def _run(self, plan: WindowPlan) -> None:
        for group in plan.groups:
            # The prefetch is a task of its own, behind the group's: it delays nobody.
            self._spawn(self._pump(group))
            if self._prefetcher is not None:
                self._prefetcher.hint(request.adapter for request in group)
        doubt = None
        if any(isinstance(error, UnknownModel) for _, error in plan.refused):
            doubt = await self._doubt()
        for request_id, error in plan.refused:
            self._fail(request_id, doubt if doubt and isinstance(error, UnknownModel) else error)

    async def _doubt(self) -> ServingError | None:
        """Why a name that the registry does not have may exist all the same."""
        try:
            async with asyncio.timeout(self._store_timeout_s):
                await self._guard.require_whole()
        except ServingError as error:
            return error
        except TimeoutError:
            return StoreUnavailable("The adapter registry did not answer in time.")
        return None

    async def _pump(self, requests: tuple[GenerateRequest, ...]) -> None:
        """Fan one group's step stream out; whatever happens, every stream of it ends."""
        requests = tuple(r for r in requests if r.request_id in self._running)
        if not requests:
            return
        streams = [self._running[r.request_id] for r in requests]
        left: set[int] = set()
        error: ServingError = EngineFailed("The engine ended without finishing the request.")
        try:
            async for batch in self._dispatcher.generate(requests):
                self._count(batch)
                for delta in batch.deltas:
                    stream = streams[delta.index]
                    stream.push(delta)
                    if stream.closed and delta.index not in left:
                        # The first cancel may have overtaken the call that it was meant for.
                        left.add(delta.index)
                        self._spawn(self._dispatch_cancel(stream.request_id))
        except ServingError as failure:
            error = failure
        except Exception:
            _LOG.exception("a group's stream broke")
            error = EngineFailed("The engine failed.")
        finally:
            for request in requests:
                self._fail(request.request_id, error)

    def _count(self, batch: TokenBatch) -> None:
        self.metrics.step_messages.inc()
        self.metrics.tokens.inc(sum(len(delta.token_ids) for delta in batch.deltas))

    def _fail(self, request_id: str, error: ServingError) -> None:
        stream = self._running.pop(request_id, None)
        if stream is not None:
            stream.fail(error)

    def _cancel(self, request_id: str) -> None:
        """Called by a stream whose reader left while the request was running."""
        if self._running.pop(request_id, None) is not None:
            self._spawn(self._dispatch_cancel(request_id))

    async def _dispatch_cancel(self, request_id: str) -> None:
        try:
            await self._dispatcher.cancel((request_id,))
        except Exception as error:
            _LOG.warning("could not cancel %s: %s", request_id, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
