"""Whether an engine moves, so that those who wait for it can tell busy from stuck."""

import time
from collections.abc import Callable

_STEP_S = 5.0


class Pulse:
    """An engine that has requests must bring something of one of them every few seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._moved_at_s = clock()

    def beat(self) -> None:
        """The engine has taken a request, or made a token."""
        self._moved_at_s = self._clock()

    def is_alive(self, num_running: int) -> bool:
        """Whether it moves, or has nothing to do."""
        return not num_running or self._clock() - self._moved_at_s < _STEP_S
