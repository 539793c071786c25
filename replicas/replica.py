"""One engine fed from the adapter cache: a group of requests in, one message per engine step out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from adapter_cache.fetcher import AdapterFetcher
from contracts.adapters import AdapterKey
from contracts.errors import EngineFailed, ServingError
from contracts.generation import GenerateRequest, TokenBatch, TokenDelta
from contracts.replica import ReplicaInfo
from replicas.engine import Engine, TokenSource


class Replica:
    """Fetches what a request needs, holds it for the request's life, runs it, sends its tokens back.

    Knows no Ray, no Redis and no vLLM: `engine` and `fetcher` do.
    """

    def __init__(self, engine: Engine, fetcher: AdapterFetcher) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._info: ReplicaInfo | None = None

    async def start(self) -> ReplicaInfo:
        self._info = await self._engine.start()
        return self._info

    async def describe(self) -> ReplicaInfo:
        if self._info is None:
            raise EngineFailed("The engine has not started.")
        return self._info

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        """The group's tokens, a TokenBatch whenever the engine has stepped, until all are done.

        A request that fails has a delta with its error; the others go on. Requests whose adapter is
        on the node start at once, those that must fetch join when it has come. Closing the iterator
        ends every request of the group.
        """
        group = _Group(self._engine, self._fetcher, requests)
        try:
            while not group.finished:
                batch = await group.step()
                if batch.deltas:
                    yield batch
        finally:
            await group.close()

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        """Stop working on requests; ids that are not running here are ignored."""
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
        self._failed: list[TokenDelta] = []
        self._tasks = {
            index: asyncio.create_task(self._enter(index, request))
            for index, request in enumerate(requests)
        }
        self._holds: dict[int, AsyncExitStack] = {}

    @property
    def finished(self) -> bool:
        return not (self._tasks or self._running or self._failed)

    async def step(self) -> TokenBatch:
        """Wait for news and take all of it."""
        await self._wake.wait()
        self._wake.clear()
        failed, self._failed = self._failed, []
        deltas = list(failed)
        for index, source in list(self._running.items()):
            deltas += self._drain(index, source)
            if source.finished:
                await self._leave(index)
        return TokenBatch(tuple(deltas))

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for index in list(self._running):
            await self._engine.abort(self._requests[index].request_id)
            await self._leave(index)

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
            self._failed.append(TokenDelta(index, error=error))
        except Exception as error:
            self._failed.append(TokenDelta(index, error=_unexpected(error)))
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
