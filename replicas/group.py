"""The requests of one call to a replica, from their adapters' arrival to their last tokens."""

import asyncio
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from adapter_cache.fetcher import AdapterFetcher
from contracts.errors import EngineFailed, ServingError
from contracts.generation import GenerateRequest, TokenDelta
from contracts.load import TokensLeft
from contracts.tracing import NO_TRACER, Tracer
from flora.lora_row import is_lora
from replicas.companion import Companion
from replicas.engine import Engine, TokenSource
from replicas.fair_gate import FairGate, Pass
from replicas.lora_seats import LoraSeats
from replicas.pulse import Pulse
from replicas.request_trace import GroupTrace


class Group:
    """The requests of one call: those still on their way in, and those that produce tokens.

    `wake` is set whenever there may be something to take; groups may share one.
    """

    def __init__(
        self,
        engine: Engine,
        gate: FairGate,
        fetcher: AdapterFetcher,
        companions: Sequence[Companion],
        requests: tuple[GenerateRequest, ...],
        wake: asyncio.Event,
        tracer: Tracer = NO_TRACER,
        pulse: Pulse | None = None,
        seats: LoraSeats | None = None,
    ) -> None:
        self._pulse = pulse or Pulse()
        self._seats = seats
        self._left = {index: TokensLeft(request) for index, request in enumerate(requests)}
        self._trace = GroupTrace(tracer, requests)
        self._engine = engine
        self._gate = gate
        self._fetcher = fetcher
        self._companions = companions
        self._requests = requests
        self._wake = wake
        self._running: dict[int, TokenSource] = {}
        self._told: list[TokenDelta] = []
        self._entered: list[TokenDelta] = []
        self._num_submitting = 0
        self._tasks = {
            index: asyncio.create_task(self._enter(index, request))
            for index, request in enumerate(requests)
        }
        self._holds: dict[int, AsyncExitStack] = {}
        self._passes: dict[int, Pass] = {}

    @property
    def finished(self) -> bool:
        return not (self._tasks or self._running or self._told)

    @property
    def num_running(self) -> int:
        """Requests that the engine has."""
        return len(self._running)

    @property
    def num_tokens_left(self) -> int:
        """What is left to do of those that have not ended."""
        indices = (*self._tasks, *self._running)
        return sum(self._left[index].num_tokens for index in indices)

    async def take(self) -> tuple[TokenDelta, ...]:
        """All that is new; none of it is waited for.

        Who has entered is told in one message with those who are about to, or with others' tokens.
        """
        deltas, self._told = self._told, []
        for index, source in list(self._running.items()):
            deltas += self._drain(index, source)
            if source.finished:
                await self._leave(index)
        if deltas or not self._num_submitting:
            deltas, self._entered = self._entered + deltas, []
        self._trace.take(deltas)
        return tuple(deltas)

    async def cancel(self, request_ids: Collection[str]) -> None:
        """End requests that are still on their way in; those that run are the engine's to end."""
        indices = [
            index
            for index, task in self._tasks.items()
            if self._requests[index].request_id in request_ids and not task.cancelling()
        ]
        for index in indices:
            choices = range(self._requests[index].sampling.n)
            self._told += [TokenDelta(index, c, finish_reason="abort") for c in choices]
        await self._turn_back(indices)

    async def close(self) -> None:
        """End what is left. Files are let go even when the engine can't be told any more."""
        left = [*self._tasks, *self._running]
        try:
            await self._turn_back(list(self._tasks))
            # Those on their way in too: a submit may have been cut in half.
            for index in left:
                await self._engine.abort(self._requests[index].request_id)
        finally:
            for index in list(self._running):
                await self._leave(index)
            self._trace.close()

    async def _turn_back(self, indices: Sequence[int]) -> None:
        tasks = [self._tasks[index] for index in indices]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for index in indices:
            # A task that never began has not taken itself off the list.
            self._tasks.pop(index, None)
        self._wake.set()

    def _drain(self, index: int, source: TokenSource) -> list[TokenDelta]:
        try:
            deltas = source.drain(index)
            num_tokens = sum(len(delta.token_ids) for delta in deltas)
            self._passes[index].charge(num_tokens)
            self._left[index].take(num_tokens)
            if num_tokens:
                self._pulse.beat()
            return deltas
        except ServingError as error:
            return [TokenDelta(index, error=error)]

    async def _enter(self, index: int, request: GenerateRequest) -> None:
        """Fetch, queue, hold, submit. Ends with the request running, or its error to be told."""
        stack = AsyncExitStack()
        try:
            self._gate.require_room(request)
            if not request.adapter.is_base:
                for companion in self._companions:
                    companion.began(request.adapter)
                    stack.callback(companion.ended, request.adapter)
            row, passed = await self._turn(index, request, stack)
            self._running[index] = await self._submit(index, request, row, passed.priority)
            self._pulse.beat()
            self._holds[index], self._passes[index] = stack, passed
        except ServingError as error:
            self._told.append(TokenDelta(index, error=error))
        except Exception as error:
            self._told.append(TokenDelta(index, error=_unexpected(error)))
        finally:
            if index not in self._holds:
                await stack.aclose()
            self._tasks.pop(index, None)
            self._wake.set()

    async def _submit(
        self, index: int, request: GenerateRequest, row: Path | None, priority: int
    ) -> TokenSource:
        self._trace[index].fetched()
        self._num_submitting += 1
        try:
            source = await self._engine.submit(request, row, self._wake, priority)
        finally:
            self._num_submitting -= 1
        self._trace[index].submitted()
        self._entered.append(TokenDelta(index, entered=True))
        return source

    async def _turn(
        self, index: int, request: GenerateRequest, stack: AsyncExitStack
    ) -> tuple[Path | None, Pass]:
        """The row's file, and a pass into the engine. The file is held, but not while it waits:
        what is queued could be more than fits the node.
        """
        held = await stack.enter_async_context(AsyncExitStack())
        row = await self._hold(request, held)
        if self._seats is not None and row is not None and is_lora(row):
            seat = self._seats.ask(request.adapter.digest, request.tenant)
            stack.callback(seat.leave)
            if not seat.is_taken:
                await held.aclose()
                await seat.turn()
                row = await self._hold(request, held)
        passed = self._gate.ask(request)
        stack.callback(passed.leave)
        if not passed.is_in:
            await held.aclose()
            self._trace[index].queued()
            await passed.turn()
            self._trace[index].admitted()
            row = await self._hold(request, held)
        return row, passed

    async def _hold(self, request: GenerateRequest, held: AsyncExitStack) -> Path | None:
        if request.adapter.is_base:
            return None
        return await held.enter_async_context(self._fetcher.hold(request.adapter))

    async def _leave(self, index: int) -> None:
        del self._running[index]
        del self._passes[index]
        await self._holds.pop(index).aclose()


def _unexpected(error: Exception) -> EngineFailed:
    return EngineFailed(f"The request could not be started ({type(error).__name__}).")
