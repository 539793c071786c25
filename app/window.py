"""What happens to the requests that arrived together. Knows nothing of HTTP or of Ray.

    asks of one window --> one store.resolve --> one group --> one step stream --> TokenStreams
                       `-> quotas.charge ----'

`plan_window` decides, `Window` acts. Who is "together" is settled before, in `gather.py`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from typing import Any, Protocol

from adapter_cache.registry_guard import AlwaysWhole, Guard
from app.ask import Ask
from app.dispatcher import Dispatcher
from app.door_metrics import DoorMetrics
from app.prefetch import Prefetcher
from app.quota import Standing, Verdict
from app.quotas import Quotas
from app.request_life import RequestLife
from app.request_observer import RequestObserver
from app.request_spans import RequestSpans
from app.token_stream import TokenStream
from app.window_plan import Found, WindowPlan, plan_window, split_ready
from contracts.adapters import AdapterKey, AdapterRef
from contracts.errors import EngineFailed, ServingError, StoreUnavailable, UnknownModel
from contracts.generation import GenerateRequest, TokenBatch

_LOG = logging.getLogger(__name__)


class Resolver(Protocol):
    """The one method of the adapter store that a window calls."""

    async def resolve(
        self, refs: Sequence[AdapterRef]
    ) -> Sequence[AdapterKey | ServingError | None]:
        """Keys of `refs`, in their order; None where an adapter is unknown, the error where nobody
        can say now, or where it is for another model. Raises StoreUnavailable when nobody can say
        of any.
        """
        ...


class Window:
    """Opens a TokenStream for each ask and sees to it that each one ends.

    `store_timeout_s` bounds a resolve; `base_wait_s` is how long base-model requests wait for
    their neighbours' adapters before they go ahead as a group of their own, so that a slow store
    costs them at most that. `guard` is asked before a name is called unknown. Replicas that the
    group does not go to hear through `prefetcher`, if there is one, which adapters are in use.
    `quotas` charges each request to the key of its caller, and hears of its end. Each of
    `observers` hears of every request, by the monotonic `clock` in seconds.
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
        observers: Sequence[RequestObserver] = (),
        quotas: Quotas | None = None,
        clock: Callable[[], float] = time.monotonic,
        spans: RequestSpans | None = None,
    ) -> None:
        self._spans = spans or RequestSpans()
        self._store = store
        self._dispatcher = dispatcher
        self._guard = guard or AlwaysWhole()
        self._prefetcher = prefetcher
        self._store_timeout_s = store_timeout_s
        self._base_wait_s = base_wait_s
        self.metrics = metrics or DoorMetrics()
        self.metrics.running.append(lambda: len(self._running))
        self._tasks: set[asyncio.Task[None]] = set()
        self._quotas = quotas
        self._observers = (*observers, *([] if quotas is None else [quotas]))
        self._clock = clock
        self._running: dict[str, RequestLife] = {}
        self.on_end: Callable[[], None] = lambda: None
        """Called when a request has ended and its place is free."""

    def __repr__(self) -> str:
        return f"Window(running={len(self._running)}, tasks={len(self._tasks)})"

    @property
    def num_running(self) -> int:
        """Requests whose stream has not ended."""
        return len(self._running)

    def open(
        self, asks: Sequence[Ask], streams: Sequence[TokenStream] | None = None
    ) -> Sequence[TokenStream]:
        """One stream per ask, in order, before anything is awaited: errors come through them.

        `streams` are those that readers have already; their `on_close` must call `cancel`.
        """
        self.metrics.windows.inc()
        self.metrics.requests.inc(len(asks))
        streams = streams or [TokenStream(a.request_id, a.sampling.n, self.cancel) for a in asks]
        now_s = self._clock()
        for ask, stream in zip(asks, streams, strict=True):
            life = RequestLife(ask, stream, self._observers, now_s)
            self._running[ask.request_id] = life
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
        """Each request goes ahead once what it needs is known; all in one group if that is soon."""
        refs = tuple({ask.adapter: None for ask in asks if ask.adapter is not None})
        charged = [ask for ask in asks if not ask.caller.quota.is_unlimited]
        if not refs and not charged:
            await self._run(plan_window(asks, {}))
            return
        # Both begin in the same turn of the loop: what they ask the store travels together.
        resolving = asyncio.ensure_future(self._resolve(refs))
        resolving.add_done_callback(self._spans.resolving(asks))
        charging = asyncio.ensure_future(self._charge(charged))
        try:
            pending = (await asyncio.wait({resolving, charging}, timeout=self._base_wait_s))[1]
            while True:
                ready, asks = split_ready(asks, resolving.done(), charging.done())
                if ready:
                    found = resolving.result() if resolving.done() else {}
                    verdicts = charging.result() if charging.done() else {}
                    self._spawn(self._run(plan_window(ready, found, verdicts)))
                if not asks:
                    return
                pending = (await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED))[1]
        finally:
            resolving.cancel()
            charging.cancel()

    async def _charge(self, asks: Sequence[Ask]) -> Mapping[str, Verdict]:
        """Never raises but when it is cancelled: a fault of quotas must not stop the door."""
        if self._quotas is None or not asks:
            return {}
        try:
            verdicts = await self._quotas.charge(asks)
        except Exception:
            _LOG.exception("charging failed")
            return {}
        for request_id, verdict in verdicts.items():
            life = self._running.get(request_id)
            if life is not None and isinstance(verdict, Standing):
                life.stream.standing = verdict
        return verdicts

    async def _resolve(self, refs: Sequence[AdapterRef]) -> Found:
        if not refs:
            return {}
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
        """Fan one group's step stream out; whatever happens, every request of it ends."""
        requests = tuple(r for r in requests if r.request_id in self._running)
        if not requests:
            return
        requests = self._spans.calling(requests)
        lives = [self._running[r.request_id] for r in requests]
        for life, request in zip(lives, requests, strict=True):
            life.stream.adapter = request.adapter
        error: ServingError = EngineFailed("The engine ended without finishing the request.")
        left: set[str] = set()
        try:
            async for batch in self._dispatcher.generate(requests):
                self._deliver(batch, lives, left)
        except ServingError as failure:
            error = failure
        except Exception:
            _LOG.exception("a group's stream broke")
            error = EngineFailed("The engine failed.")
        finally:
            for request in requests:
                self._fail(request.request_id, error)

    def _deliver(self, batch: TokenBatch, lives: Sequence[RequestLife], left: set[str]) -> None:
        """One step's tokens. `left` holds who ended before the engine and was cancelled again."""
        self.metrics.tokens.inc(sum(len(delta.token_ids) for delta in batch.deltas))
        now_s = self._clock()
        touched: dict[int, RequestLife] = {}
        for delta in batch.deltas:
            life = touched[delta.index] = lives[delta.index]
            request_id = life.ask.request_id
            if life.is_over and request_id not in left:
                # The first cancel may have overtaken the call that it was meant for.
                left.add(request_id)
                self._spawn(self._dispatch_cancel(request_id))
            life.push(delta)
        for life in touched.values():
            life.step(now_s)
            if life.stream.ended:
                self._end(life.ask.request_id)

    def _fail(self, request_id: str, error: ServingError) -> None:
        life = self._running.get(request_id)
        if life is not None:
            life.stream.fail(error)
            self._end(request_id)

    def _end(self, request_id: str) -> bool:
        """Whether the request was running until now; its stream says how it ended."""
        life = self._running.pop(request_id, None)
        if life is not None:
            life.end(self._clock())
            self.on_end()
        return life is not None

    def cancel(self, request_id: str) -> None:
        """Called by a stream whose reader left, or expired, while the request was running."""
        if self._end(request_id):
            self._spawn(self._dispatch_cancel(request_id))

    async def _dispatch_cancel(self, request_id: str) -> None:
        try:
            await self._dispatcher.cancel((request_id,))
        except Exception as error:
            _LOG.warning("could not cancel %s: %s", request_id, error)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        # In no request's context: what a window does, it does for many.
        task = asyncio.get_running_loop().create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
