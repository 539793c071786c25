"""One engine fed from the adapter cache: a group of requests in, one message an engine step out."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import AsyncExitStack

from adapter_cache.fetcher import AdapterFetcher
from contracts.adapters import AdapterKey
from contracts.errors import EngineFailed, NotReady, ServingError
from contracts.generation import GenerateRequest, TokenBatch, TokenDelta
from contracts.replica import ReplicaInfo
from replicas.engine import Engine, TokenSource


class Replica:
    """Fetches what a request needs, holds it while the request lives, sends its tokens back.

    Knows no Ray, no Redis and no vLLM: `engine` and `fetcher` do.
    """

    def __init__(self, engine: Engine, fetcher: AdapterFetcher) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._info: ReplicaInfo | None = None
        self._groups: set[_Group] = set()

    async def start(self) -> ReplicaInfo:
        self._info = await self._engine.start()
        return self._info

    async def describe(self) -> ReplicaInfo:
        if self._info is None:
            raise NotReady("The engine has not started.")
        return self._info

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncGenerator[TokenBatch]:
        """The group's tokens, a TokenBatch whenever the engine has stepped, until all are done.

        A request that fails has a delta with its error; the others go on. Requests whose adapter is
        on the node start at once, those that must fetch join when it has come. Closing the iterator
        ends every request of the group.
        """
        group = _Group(self._engine, self._fetcher, requests)
        self._groups.add(group)
        try:
            while not group.finished:
                batch = await group.step()
                if batch.deltas:
                    yield batch
        finally:
            self._groups.discard(group)
            await group.close()

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        """Stop working on requests; ids that are not running here are ignored."""
        for group in list(self._groups):
            await group.cancel(request_ids)
        for request_id in request_ids:
            await self._engine.abort(request_id)

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        """Bring adapters to the node before somebody asks. Failures are left to whoever asks."""
        fetches = (self._fetcher.ensure(key) for key in keys if not key.is_base)
        await asyncio.gather(*fetches, return_exceptions=True)

    async def check(self) -> None:
        await self._engine.check()

    async def stop(self) -> None:
        await self._fetcher.close()
        await self._engine.stop()


class _Group:
    """The requests of one call: those still on their way in, and those that produce tokens."""

    def __init__(
        self, engine: Engine, fetcher: AdapterFetcher, requests: tuple[GenerateRequest, ...]
    ) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._requests = requests
        self._wake = asyncio.Event()
        self._running: dict[int, TokenSource] = {}
        self._told: list[TokenDelta] = []
        self._tasks = {
            index: asyncio.create_task(self._enter(index, request))
            for index, request in enumerate(requests)
        }
        self._holds: dict[int, AsyncExitStack] = {}

    @property
    def finished(self) -> bool:
        return not (self._tasks or self._running or self._told)

    async def step(self) -> TokenBatch:
        """Wait for news and take all of it."""
        await self._wake.wait()
        self._wake.clear()
        deltas, self._told = self._told, []
        for index, source in list(self._running.items()):
            deltas += self._drain(index, source)
            if source.finished:
                await self._leave(index)
        return TokenBatch(tuple(deltas))

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
            return source.drain(index)
        except ServingError as error:
            return [TokenDelta(index, error=error)]

    async def _enter(self, index: int, request: GenerateRequest) -> None:
        """Fetch, hold, submit. Ends with the request running, or with its error to be told."""
        stack = AsyncExitStack()
        try:
            row = None
            if not request.adapter.is_base:
                row = await stack.enter_async_context(self._fetcher.hold(request.adapter))
            self._running[index] = await self._engine.submit(request, row, self._wake)
            self._holds[index] = stack
        except ServingError as error:
            self._told.append(TokenDelta(index, error=error))
        except Exception as error:
            self._told.append(TokenDelta(index, error=_unexpected(error)))
        finally:
            if index not in self._holds:
                await stack.aclose()
            self._tasks.pop(index, None)
            self._wake.set()

    async def _leave(self, index: int) -> None:
        del self._running[index]
        await self._holds.pop(index).aclose()


def _unexpected(error: Exception) -> EngineFailed:
    return EngineFailed(f"The request could not be started ({type(error).__name__}).")
