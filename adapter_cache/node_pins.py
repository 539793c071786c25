"""Pins of one process on files: shared locks, which the kernel drops when the process dies."""

import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from contracts.adapters import Digest


@dataclass(slots=True)
class _Pin:
    descriptor: int
    count: int = 0


class NodePins:
    """How often this process has pinned each digest. Thread-safe; never waits."""

    def __init__(self) -> None:
        self._pins: dict[Digest, _Pin] = {}
        self._guard = threading.Lock()

    def pin(self, digest: Digest, path: Path) -> int | None:
        """Keep the file at `path` one time more: its descriptor, open until as many `unpin`s.

        None when it is not there or going.
        """
        with self._guard:
            held = self._pins.get(digest)
            if held is None:
                descriptor = _lock_shared(path)
                if descriptor is None:
                    return None
                held = self._pins[digest] = _Pin(descriptor)
            held.count += 1
            return held.descriptor

    def unpin(self, digest: Digest) -> None:
        """Undo one `pin`. Raises KeyError when there is none."""
        with self._guard:
            held = self._pins[digest]
            held.count -= 1
            if held.count:
                return
            del self._pins[digest]
            # Unlock, not only close: a forked child may hold the same descriptor open.
            fcntl.flock(held.descriptor, fcntl.LOCK_UN)
            os.close(held.descriptor)

    def digests(self) -> set[Digest]:
        """Everything that this process has pinned."""
        with self._guard:
            return set(self._pins)


def unlink_unpinned(path: Path) -> bool:
    """Remove `path` unless some process has it pinned; False if so, or when it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _lock_shared(path: Path) -> int | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        # It may have been unlinked between the open and the lock.
        if os.fstat(descriptor).st_nlink:
            return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None
