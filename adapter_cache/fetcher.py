"""From the store to the node cache, each digest once at a time. Knows nothing of engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from adapter_cache.node_cache import NodeCache
from adapter_cache.store import AdapterStore
from contracts.adapters import AdapterKey, Digest
from contracts.errors import AdapterCorrupt, DeadlineExceeded


class AdapterFetcher:
    """Brings blobs to the node: one flight per digest, at most `max_parallel` at once.

    A flight belongs to no caller: whoever waits may give up, and the others still get the file.
    It ends within `deadline_s` of its start. Bound to the event loop that first uses it.
    """

    def __init__(
        self, store: AdapterStore, cache: NodeCache, *, max_parallel: int, deadline_s: float
    ) -> None:
        self._store = store
        self._cache = cache
        self._places = asyncio.Semaphore(max_parallel)
        self._deadline_s = deadline_s
        self._flights: dict[Digest, asyncio.Task[Path]] = {}

    async def ensure(self, key: AdapterKey) -> Path:
        """The node's file of `key`'s bytes, verified when it was written.

        It may be evicted at any time; `hold` keeps it. Not for the base model, which has no bytes.
        Raises StoreUnavailable, AdapterCorrupt (missing or wrong bytes), DeadlineExceeded, or
        Overloaded (no room on the node).
        """
        path = self._cache.get(key.digest)
        if path is not None:
            return path
        flight = self._flights.get(key.digest) or self._launch(key)
        return await asyncio.shield(flight)

    @asynccontextmanager
    async def hold(self, key: AdapterKey) -> AsyncIterator[Path]:
        """`ensure`, and keep the file on the node until the block ends."""
        while (path := self._cache.pin(key.digest)) is None:
            await self.ensure(key)
        try:
            yield path
        finally:
            self._cache.unpin(key.digest)

    async def close(self) -> None:
        """Cancel the flights; their waiters are cancelled with them."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<AdapterFetcher {len(self._flights)} in flight, {self._cache!r}>"

    def _launch(self, key: AdapterKey) -> "asyncio.Task[Path]":
        flight = asyncio.create_task(self._fly(key), name=f"fetch {key.digest[:12]}")
        self._flights[key.digest] = flight
        flight.add_done_callback(lambda done: self._land(key.digest, done))
        return flight

    def _land(self, digest: Digest, flight: "asyncio.Task[Path]") -> None:
        del self._flights[digest]
        # Looked at, so that asyncio does not report a failure whose waiters all gave up.
        if not flight.cancelled():
            flight.exception()

    async def _fly(self, key: AdapterKey) -> Path:
        try:
            async with asyncio.timeout(self._deadline_s), self._places:
                blob = await self._store.fetch(key.digest)
                if blob is None:
                    raise AdapterCorrupt(
                        f"the store has no bytes for adapter {key.name!r} version {key.version} "
                        f"(digest {key.digest})"
                    )
                # Hashing and writing take a thread: half a megabyte would hold the loop.
                return await asyncio.to_thread(self._cache.put, key.digest, blob)
        except TimeoutError:
            raise DeadlineExceeded(
                f"adapter {key.name!r} version {key.version} was not on the node within "
                f"{self._deadline_s} s"
            ) from None
