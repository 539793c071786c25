"""A replica that follows a feed, with parts that fail on request."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from adapter_cache.changes import MemoryFeed
from adapter_cache.registry_guard import AlwaysWhole
from contracts.adapters import AdapterChange, AdapterKey, AdapterRef, Digest
from contracts.errors import NotReady
from replicas.change_follower import ChangeFollower
from tests.replicas.engines import Stack, SteppedEngine, make_group, until


class FollowedStack(Stack):
    """A replica that follows a feed. The registry is the store; pauses are as short as can be."""

    def __post_init__(self) -> None:
        super().__post_init__()
        assert isinstance(self.engine, SteppedEngine)
        self.stepped = self.engine
        self.feed = FaultyFeed()
        self.guard = FlakyGuard()
        self.registry = FlakyRegistry(self)
        self.pauses: list[float] = []
        self.follower = ChangeFollower(
            self.feed,
            self.registry,
            self.guard,
            self.cache,
            self.fetcher,
            self.stepped,
            rng=lambda: 0.0,
            sleep=self._pause,
        )
        self.companions.append(self.follower)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def serve(self, *keys: AdapterKey) -> None:
        """A request for each key, from its beginning to its end."""
        batches = await self.read(make_group(*keys))
        await until(lambda: len(self.stepped.sources) == len(keys))
        self.stepped.step(1, "stop")
        while await batches.get() is not None:
            pass

    def resident(self) -> set[Digest]:
        return {each.digest for each in self.cache.residents()}


class FaultyFeed(MemoryFeed):
    """Ends or fails as often as it is told to before it works."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[Exception | None] = []

    async def changes(self) -> AsyncIterator[AdapterChange | None]:
        if self.failures:
            failure = self.failures.pop()
            if failure is not None:
                raise failure
            return
        async for change in super().changes():
            yield change
            if self.failures:
                return


class FlakyRegistry:
    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.failures: list[Exception] = []
        self.is_empty = False
        self.num_asked = 0

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        self.num_asked += 1
        if self.failures:
            raise self.failures.pop()
        found = await self._stack.store.resolve(refs)
        return [None] * len(refs) if self.is_empty else found


class FlakyGuard(AlwaysWhole):
    is_whole = True
    num_asked = 0

    async def require_whole(self) -> None:
        self.num_asked += 1
        if not self.is_whole:
            raise NotReady("being rebuilt")
