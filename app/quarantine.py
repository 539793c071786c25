"""Requests that may have killed an engine, one at a time: whose engine dies now is the one."""

import asyncio
from collections import deque
from collections.abc import Callable

from app.trip import Trip

_MAX_ALONE_S = 10.0


class Quarantine:
    """One trip is inside until it leaves, or for `max_alone_s`: it may wait for its turn there."""

    def __init__(self, max_alone_s: float = _MAX_ALONE_S) -> None:
        self._max_alone_s = max_alone_s
        self._inside: Trip | None = None
        self._waiting: deque[tuple[Trip, Callable[[], None]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Quarantine {len(self._waiting)} waiting>"

    def enter(self, trip: Trip, go: Callable[[], None]) -> None:
        """`go` is called when it is the trip's turn; that may be at once."""
        self._waiting.append((trip, go))
        self._next()

    def leave(self, trip: Trip) -> None:
        """It has proved harmless, is over, or waits no more; a trip that is not here is ignored."""
        if self._inside is trip:
            self._inside = None
            if self._timer is not None:
                self._timer.cancel()
            self._next()
        else:
            self._waiting = deque(each for each in self._waiting if each[0] is not trip)

    def _next(self) -> None:
        if self._inside is None and self._waiting:
            self._inside, go = self._waiting.popleft()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._max_alone_s, self.leave, self._inside)
            go()
