"""News of moved version pointers, and the fake of it. Nothing that must be right rests on it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from contracts.adapters import AdapterChange


class ChangeFeed(Protocol):
    """Announcements from every publisher to every replica."""

    async def announce(self, change: AdapterChange) -> None:
        """Tell everybody. A failure is logged, not raised: the change itself has happened."""
        ...

    def changes(self) -> AsyncIterator[AdapterChange | None]:
        """What is announced from now on, for ever; reconnects by itself.

        None means that some may have been missed: whoever relies on them looks again.
        """
        ...


class MemoryFeed:
    """ChangeFeed in one process, for tests; `skip` makes a gap."""

    def __init__(self) -> None:
        self._listeners: list[asyncio.Queue[AdapterChange | None]] = []

    async def announce(self, change: AdapterChange) -> None:
        for queue in self._listeners:
            queue.put_nowait(change)

    def skip(self) -> None:
        """Tell every listener that it missed something."""
        for queue in self._listeners:
            queue.put_nowait(None)

    async def changes(self) -> AsyncIterator[AdapterChange | None]:
        queue: asyncio.Queue[AdapterChange | None] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(queue)
