"""Time that jumps from event to event."""

import heapq
from collections.abc import Callable
from typing import Any


class Clock:
    """Calls what was scheduled, in order of time; what is due at once, in the order it came."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.num_events = 0
        self._queue: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0

    def __repr__(self) -> str:
        return f"<Clock {self.now_s:.3f} s, {len(self._queue)} events to come>"

    def at(self, time_s: float, call: Callable[..., None], *given: Any) -> None:
        """Call it at that time, or now where that is past."""
        self._number += 1
        heapq.heappush(self._queue, (max(time_s, self.now_s), self._number, call, given))

    def after(self, delay_s: float, call: Callable[..., None], *given: Any) -> None:
        """Call it so much later."""
        self.at(self.now_s + delay_s, call, *given)

    def run(self, is_over: Callable[[], bool]) -> None:
        """Until it is over, or nothing is left."""
        while self._queue and not is_over():
            self.now_s, _, call, given = heapq.heappop(self._queue)
            self.num_events += 1
            call(*given)
