"""Child processes of one start, and the end of them all. Knows nothing of what they are."""

import ctypes
import sys
import threading
from collections.abc import Callable

import psutil  # type: ignore[import-untyped]

_PR_SET_CHILD_SUBREAPER = 36
_GENTLE_S = 1.0


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies, so that none gets lost."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants(timeout_s: float, *, keep: frozenset[int] = frozenset()) -> int:
    """Terminate, then kill, every descendant but the process ids in `keep`; how many were killed.

    Returns when they are gone or after `timeout_s`.
    """
    left = _descendants(keep)
    for process in left:
        _signal(process.terminate)
    psutil.wait_procs(left, min(_GENTLE_S, timeout_s / 2))
    # What a dying parent leaves behind is ours by now.
    left = _descendants(keep)
    for process in left:
        _signal(process.kill)
    psutil.wait_procs(left, timeout_s / 2)
    return len(left)


def child_ids() -> frozenset[int]:
    """Process ids of all descendants now."""
    return frozenset(process.pid for process in _descendants(frozenset()))


def run_within(timeout_s: float, work: Callable[[], object]) -> bool:
    """Run `work` on a thread; False where it has failed or is not done after `timeout_s`."""
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout_s)
    return done.is_set()


def _descendants(keep: frozenset[int]) -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [process for process in found if process.pid not in keep]


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
