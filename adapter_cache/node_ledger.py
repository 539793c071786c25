"""The sum of the bytes in a node cache's directory, in a file whose lock guards every change."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Ledger:
    """Written back when its lock is released; a crash leaves it one blob off until a recount."""

    total_bytes: int


def read_total_bytes(path: Path) -> int:
    """What the ledger says now, without its lock: a number to show, not to decide by."""
    return _parse(path.read_bytes())


@contextmanager
def locked_ledger(path: Path) -> Iterator[Ledger]:
    """The ledger, for one holder at a time on the node; waits for its turn. Raises OSError."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        ledger = Ledger(_parse(os.pread(descriptor, 32, 0)))
        try:
            yield ledger
        finally:
            os.pwrite(descriptor, b"%-31d\n" % ledger.total_bytes, 0)
    finally:
        os.close(descriptor)


def _parse(text: bytes) -> int:
    return int(text) if text.strip().isdigit() else 0
