"""Fetches under way: one a digest, all of them within bounds. Knows nothing of tiers."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

from contracts.adapters import AdapterKey, Digest
from contracts.errors import Overloaded

Flight = asyncio.Task[Path]


class Flights:
    """At most `max_pending` flights, of at most `max_pending_bytes` together.

    A flight belongs to no caller: whoever waits may give up, and the others still get the file.
    Joining a flight costs nothing. Bytes are those that the keys announce.
    """

    def __init__(self, max_pending: int, max_pending_bytes: int) -> None:
        self._max_pending = max_pending
        self._max_pending_bytes = max_pending_bytes
        self._flights: dict[Digest, Flight] = {}
        self.pending_bytes = 0

    def find(self, digest: Digest) -> Flight | None:
        """The flight of `digest` that is under way."""
        return self._flights.get(digest)

    def launch(self, key: AdapterKey, fly: Callable[[], Coroutine[None, None, Path]]) -> Flight:
        """Start `fly` for a digest that has no flight. Raises Overloaded, with nothing started."""
        if len(self) >= self._max_pending:
            raise Overloaded(f"{len(self)} adapters are being fetched: no more are taken")
        if self.pending_bytes + key.size_bytes > self._max_pending_bytes:
            raise Overloaded(
                f"{self.pending_bytes} bytes of adapters are being fetched: "
                f"{key.size_bytes} more are not taken"
            )
        flight = asyncio.create_task(fly(), name=f"fetch {key.digest[:12]}")
        self._flights[key.digest] = flight
        self.pending_bytes += key.size_bytes
        flight.add_done_callback(lambda done: self._land(key, done))
        return flight

    async def close(self) -> None:
        """Cancel the flights; their waiters are cancelled with them."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._flights)

    def _land(self, key: AdapterKey, flight: Flight) -> None:
        del self._flights[key.digest]
        self.pending_bytes -= key.size_bytes
        # Looked at, so that asyncio does not report a failure whose waiters all gave up.
        if not flight.cancelled():
            flight.exception()
