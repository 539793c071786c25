"""Who is together: requests wait here until their window opens, or until they leave.

    open() --> WaitingRoom --(a bell rings)--> the fair next ones --> Window.open

When the bell rings is somebody else's to say: `@serve.batch` in `ray_bell.py`, a timer here.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from app.ask import Ask
from app.door_metrics import DoorMetrics
from app.token_stream import TokenStream
from app.waiting_room import Guest, RoomLimits, WaitingRoom
from app.window import Window
from contracts.access import Caller
from contracts.errors import NotReady, Overloaded


@dataclass(frozen=True, slots=True)
class WindowTuning:
    """What may change while requests run. See WindowSettings.

    `adaptive`: a request that finds nothing running does not wait, as nothing is gained by it.
    """

    max_batch_size: int = 64
    wait_s: float = 0.002
    adaptive: bool = True


@dataclass(frozen=True, slots=True)
class GatherLimits:
    """How many requests of this door run at a time, and how many more may wait."""

    max_running: int = 2048
    room: RoomLimits = field(default_factory=RoomLimits)


class Bell(Protocol):
    """Says when a window closes."""

    def start(self, close: Callable[[int], None]) -> None:
        """From now on call `close` with the most requests that one window may have."""
        ...

    def tune(self, tuning: WindowTuning) -> None:
        """What counts from the next window on."""
        ...

    def ring(self, num_ready: int, wait_s: float) -> None:
        """So many could go now. Close a window once it is full, or `wait_s` after its first."""
        ...


class Gather:
    """The requests of one door on their way into `window`.

    At most `limits.max_running` run at a time; the others wait, and those that find the room full
    are refused. `clock` is monotonic, in seconds.
    """

    def __init__(
        self,
        window: Window,
        bell: Bell,
        tuning: WindowTuning,
        *,
        limits: GatherLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window = window
        self._bell = bell
        self._limits = limits or GatherLimits()
        self._room = WaitingRoom(self._limits.room)
        self._clock = clock
        self._is_closed = False
        self._metrics: DoorMetrics = window.metrics
        self._metrics.waiting.append(lambda: len(self._room))
        window.on_end = self._ring
        bell.start(self._close_window)
        self.tune(tuning)

    def __repr__(self) -> str:
        return f"<Gather {self._room!r}, {self._window!r}>"

    @property
    def num_waiting(self) -> int:
        """Requests whose window has not opened."""
        return len(self._room)

    def tune(self, tuning: WindowTuning) -> None:
        """Change size and wait; who waits already goes on waiting, and is not lost."""
        self.tuning = tuning
        self._bell.tune(tuning)
        self._ring()

    def require_room(self, caller: Caller, number: int = 1) -> None:
        """Raises Overloaded where `number` more requests of `caller` would find no place now."""
        if self._is_closed:
            raise NotReady("The server is stopping.")
        bound = self._room.full(caller.tenant, number, self._num_free)
        if bound:
            self._metrics.shed.labels(bound).inc(number)
            whose = "of this tenant " if bound == "tenant" else ""
            raise Overloaded(f"Too many requests {whose}are waiting.")

    def open(self, asks: Sequence[Ask]) -> list[TokenStream]:
        """One stream an ask of one caller, in order. A stream may be closed while it waits, too.

        Raises Overloaded for all of them together.
        """
        if not asks:
            return []
        self.require_room(asks[0].caller, len(asks))
        now_s = self._clock()
        streams = [TokenStream(ask.request_id, ask.sampling.n, self._leave) for ask in asks]
        for ask, stream in zip(asks, streams, strict=True):
            self._room.add(Guest(ask, stream, now_s))
        self._ring()
        return streams

    def aclose(self) -> None:
        """Let nobody in any more, and tell those who wait."""
        self._is_closed = True
        for guest in self._room.take(len(self._room)):
            guest.stream.fail(NotReady("The server is stopping."))

    @property
    def _num_free(self) -> int:
        return max(0, self._limits.max_running - self._window.num_running)

    def _ring(self) -> None:
        num_ready = min(len(self._room), self._num_free)
        if num_ready:
            idle = self.tuning.adaptive and not self._window.num_running
            self._bell.ring(num_ready, 0.0 if idle else self.tuning.wait_s)

    def _close_window(self, max_number: int) -> None:
        guests = self._room.take(min(max_number, self._num_free))
        if guests:
            now_s = self._clock()
            self._metrics.window_requests.observe(len(guests))
            for guest in guests:
                self._metrics.window_wait_seconds.observe(now_s - guest.entered_at_s)
            self._window.open([g.ask for g in guests], [g.stream for g in guests])
        self._ring()

    def _leave(self, request_id: str) -> None:
        """Called by a stream whose reader left."""
        if not self._room.discard(request_id):
            self._window.cancel(request_id)


class TimerBell:
    """The Bell without Ray."""

    def __init__(self) -> None:
        self._max_batch_size = 1
        self._close: Callable[[int], None] = lambda number: None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, close: Callable[[int], None]) -> None:
        """See Bell."""
        self._close = close

    def tune(self, tuning: WindowTuning) -> None:
        """See Bell."""
        self._max_batch_size = tuning.max_batch_size

    def ring(self, num_ready: int, wait_s: float) -> None:
        """See Bell."""
        is_full = num_ready >= self._max_batch_size
        if self._timer is None or is_full:
            if self._timer is not None:
                self._timer.cancel()
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(0.0 if is_full else wait_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._close(self._max_batch_size)
