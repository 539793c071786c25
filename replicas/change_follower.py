"""Acts on news of moved versions: the old bytes leave this node, the new ones come ahead of use."""

import asyncio
import logging
import random
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from adapter_cache.changes import ChangeFeed
from adapter_cache.fetcher import AdapterFetcher
from adapter_cache.node_cache import NodeCache
from adapter_cache.registry_guard import Guard
from adapter_cache.remembering_registry import Resolver
from contracts.adapters import AdapterChange, AdapterKey, Digest
from replicas.background import Background
from replicas.change_news import ChangeInbox, decide
from replicas.companion import Companion
from replicas.served_names import ServedNames

_LOG = logging.getLogger(__name__)

_MAX_NAMES = 1 << 12
_MAX_NEWS = 1 << 10
_MAX_RETIRED = 1 << 12
# Few, so that requests find most places of the fetcher free.
_MAX_PARALLEL_FETCHES = 2
_STEP_TIMEOUT_S = 10.0
_MIN_PAUSE_S = 0.2
_MAX_PAUSE_S = 10.0


class SlotOwner(Protocol):
    """The one method of an engine that is needed here."""

    async def release(self, digest: Digest) -> bool:
        """See Engine.release."""
        ...


class ChangeFollower(Companion):
    """Follows `feed` for as long as the replica runs, through any failure of it.

    Bytes that a request in flight uses are retired when the last one ends. A gap in the news has
    all names that were served here resolved again. `guard` is asked before a name that is gone or
    older is believed. `rng` spreads pauses, `sleep` makes them.
    """

    def __init__(
        self,
        feed: ChangeFeed,
        registry: Resolver,
        guard: Guard,
        cache: NodeCache,
        fetcher: AdapterFetcher,
        engine: SlotOwner,
        *,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._feed = feed
        self._registry = registry
        self._guard = guard
        self._cache = cache
        self._fetcher = fetcher
        self._engine = engine
        self._rng = rng
        self._sleep = sleep
        self._names = ServedNames(_MAX_NAMES)
        self._inbox = ChangeInbox(_MAX_NEWS)
        self._in_use: Counter[Digest] = Counter()
        self._retired: OrderedDict[Digest, None] = OrderedDict()  # once nobody uses them
        self._places = asyncio.Semaphore(_MAX_PARALLEL_FETCHES)
        self._work = Background("following a change")

    async def start(self) -> None:
        self._work.spawn(self._read)
        self._work.spawn(self._act)

    def note(self, key: AdapterKey) -> None:
        """Keep this adapter's name up to date here from now on."""
        self._names.note(key)

    def began(self, key: AdapterKey) -> None:
        self._in_use[key.digest] += 1
        self.note(key)

    def ended(self, key: AdapterKey) -> None:
        self._in_use[key.digest] -= 1
        if self._in_use[key.digest]:
            return
        del self._in_use[key.digest]
        if key.digest in self._retired:
            del self._retired[key.digest]
            self._work.spawn(self._retire, key.digest)

    async def stop(self) -> None:
        await self._work.stop()

    def __repr__(self) -> str:
        return f"<ChangeFollower {self._names!r}, {len(self._retired)} to retire>"

    async def _read(self) -> None:
        """From the feed to the inbox, for ever."""
        failures = 0
        while True:
            try:
                # Nothing is awaited in the loop: whoever cancels this ends the feed's generator.
                async for change in self._feed.changes():
                    failures = 0
                    self._inbox.put(change)
            except Exception:
                _LOG.exception("the feed of changes failed")
            failures += 1
            await self._pause(failures)
            self._inbox.put(None)

    async def _act(self) -> None:
        failures = 0
        while True:
            change = await self._inbox.take()
            if change is not None:
                await self._work.attempt(self._follow, change)
            elif await self._work.attempt(self._look_again):
                failures = 0
            else:
                failures += 1
                await self._pause(failures)
                self._inbox.put(None)

    async def _follow(self, change: AdapterChange) -> None:
        self._names.apply(change)
        is_resident = bool(change.old) and self._cache.get(change.old) is not None
        actions = decide(change, self._names, is_resident=is_resident)
        if actions.retire is not None:
            await self._retire(actions.retire)
        if actions.fetch is not None:
            await self._places.acquire()
            self._work.spawn(self._fetch, actions.fetch)

    async def _look_again(self) -> None:
        refs = self._names.refs()
        if not refs:
            return
        async with asyncio.timeout(_STEP_TIMEOUT_S):
            keys = await self._registry.resolve(refs)
            if self._names.went_back(refs, keys):
                await self._guard.require_whole()
        for change in self._names.differences(refs, keys):
            await self._follow(change)

    async def _retire(self, digest: Digest) -> None:
        """Drop the file and free the slot, unless somebody uses them: file and slot know best."""
        if self._in_use[digest]:
            self._retired[digest] = None
            if len(self._retired) > _MAX_RETIRED:
                self._retired.popitem(last=False)
        elif not self._names.serves(digest):
            async with asyncio.timeout(_STEP_TIMEOUT_S):
                await asyncio.to_thread(self._cache.drop, digest)
                await self._engine.release(digest)

    async def _fetch(self, key: AdapterKey) -> None:
        try:
            await self._fetcher.ensure(key)
        finally:
            self._places.release()

    async def _pause(self, failures: int) -> None:
        longest_s = min(_MAX_PAUSE_S, _MIN_PAUSE_S * 2 ** min(failures, 10))
        await self._sleep(longest_s * (0.5 + self._rng() / 2))
