"""Ctrl-C during a run: once ends it after its step, with a checkpoint; twice ends it at once."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class TrainInterrupt:
    """While it is entered the first SIGINT only raises a flag: `if interrupt(): ...`.

    In other threads than the main one, which get no signals, it does nothing.
    """

    def __init__(self) -> None:
        self._is_raised = False
        self._before: Any = None

    def __call__(self) -> bool:
        return self._is_raised

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._raise)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        self._is_raised = True
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None
