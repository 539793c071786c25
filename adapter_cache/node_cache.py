"""Adapter blobs as files on one node. Knows nothing of stores, tenants or names.

    <directory>/<digest>    one blob; its time of modification is when it was last used
    <directory>/.incoming   the blob being written
    <directory>/.ledger     sum of the blobs' sizes in bytes; its lock guards every change

The directory is the only state, so it is warm after a restart, and processes can share it, its
budget and its order of use. A pin is a shared lock on a blob's file: eviction skips locked files,
and the kernel drops the lock when the process that pinned it dies.
"""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from adapter_cache.digest import is_digest, require_digest, verify_blob
from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt, Overloaded


@dataclass(frozen=True, slots=True)
class Resident:
    """One blob on the node."""

    used_at_ns: int
    digest: Digest
    size_bytes: int


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """How full the node is, and how many blobs this process has evicted from it."""

    used_bytes: int
    budget_bytes: int
    evictions: int


@dataclass(slots=True)
class _Pin:
    descriptor: int
    count: int = 0


class NodeCache:
    """Least recently used blobs within `max_bytes`, on a directory that should be tmpfs.

    `put`, `drop` and `check_integrity` may wait for another process: call them in a thread. `get`,
    `pin`, `unpin` and `usage` are a few system calls and never wait. All are thread-safe.
    """

    def __init__(
        self, directory: Path, max_bytes: int, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._clock_ns = clock_ns
        self._evictions = 0
        self._pins: dict[Digest, _Pin] = {}
        self._pins_guard = threading.Lock()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._ledger() as ledger:
            self._evict(ledger, 0)

    def get(self, digest: Digest) -> Path | None:
        """The blob's file, counted as used now, or None. Pin it to keep it."""
        path = self._path(digest)
        try:
            self._touch(path)
        except FileNotFoundError:
            return None
        return path

    def put(self, digest: Digest, blob: bytes) -> Path:
        """Keep `blob`, evicting what was used least recently; the file appears whole or not at all.

        Raises AdapterCorrupt when the digest is not the blob's, Overloaded when pinned blobs or the
        disk leave no room.
        """
        path = self._path(digest)
        verify_blob(digest, blob)
        try:
            with self._ledger() as ledger:
                if not path.exists():
                    self._make_room(ledger, len(blob))
                    self._write_or_evict(ledger, path, blob)
                    ledger.total_bytes += len(blob)
                self._touch(path)
        except OSError as error:
            raise Overloaded(f"cannot write to the node cache: {error.strerror}") from error
        return path

    def pin(self, digest: Digest) -> Path | None:
        """Keep the blob until as many `unpin`s as `pin`s; None when it is not here."""
        path = self._path(digest)
        with self._pins_guard:
            held = self._pins.get(digest)
            if held is None:
                descriptor = _lock_shared(path)
                if descriptor is None:
                    return None
                held = self._pins[digest] = _Pin(descriptor)
            held.count += 1
            self._touch(held.descriptor)
        return path

    def unpin(self, digest: Digest) -> None:
        """Undo one `pin`."""
        with self._pins_guard:
            held = self._pins[digest]
            held.count -= 1
            if held.count:
                return
            del self._pins[digest]
            # Unlock, not only close: a forked child may hold the same descriptor open.
            fcntl.flock(held.descriptor, fcntl.LOCK_UN)
            os.close(held.descriptor)

    def drop(self, digest: Digest) -> bool:
        """Remove the blob now; False when it is not here or some process has it pinned."""
        path = self._path(digest)
        with self._ledger() as ledger:
            try:
                size_bytes = path.stat().st_size
            except FileNotFoundError:
                return False
            if not _unlink_unlocked(path):
                return False
            ledger.total_bytes -= size_bytes
            return True

    def usage(self) -> NodeUsage:
        """What the ledger says now, without its lock: a number to show, not to decide by."""
        text = (self._directory / ".ledger").read_bytes().strip()
        used_bytes = int(text) if text.isdigit() else 0
        return NodeUsage(used_bytes, self._max_bytes, self._evictions)

    def residents(self) -> list[Resident]:
        """What is on the node, least recently used first. Reads the whole directory."""
        found = []
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if not is_digest(entry.name):
                    continue
                with suppress(FileNotFoundError):
                    stat = entry.stat()
                    found.append(Resident(stat.st_mtime_ns, Digest(entry.name), stat.st_size))
        return sorted(found, key=lambda resident: (resident.used_at_ns, resident.digest))

    def check_integrity(self, *, read_blobs: bool = False) -> None:
        """Raise AdapterCorrupt unless ledger, budget, pins and (on request) all bytes are right."""
        with self._ledger() as ledger:
            residents = self.residents()
            found_bytes = sum(resident.size_bytes for resident in residents)
            if not found_bytes == ledger.total_bytes <= self._max_bytes:
                raise AdapterCorrupt(
                    f"node cache holds {found_bytes} bytes, its ledger says {ledger.total_bytes}, "
                    f"its budget is {self._max_bytes}"
                )
            with self._pins_guard:
                lost = self._pins.keys() - {resident.digest for resident in residents}
            if lost:
                raise AdapterCorrupt(f"pinned blobs have left the node cache: {sorted(lost)}")
        if read_blobs:
            for resident in residents:
                with suppress(FileNotFoundError):
                    verify_blob(resident.digest, self._path(resident.digest).read_bytes())

    def __repr__(self) -> str:
        residents = self.residents()
        used_bytes = sum(resident.size_bytes for resident in residents)
        return (
            f"<NodeCache {len(residents)} blobs, {used_bytes}/{self._max_bytes} bytes, "
            f"{len(self._pins)} pinned>"
        )

    def _path(self, digest: Digest) -> Path:
        return self._directory / require_digest(digest)

    def _touch(self, file: Path | int) -> None:
        now_ns = self._clock_ns()
        os.utime(file, ns=(now_ns, now_ns))

    def _make_room(self, ledger: "_Ledger", size_bytes: int) -> None:
        # What can never fit must not empty the cache first.
        if size_bytes <= self._max_bytes < ledger.total_bytes + size_bytes:
            self._evict(ledger, size_bytes)
        if ledger.total_bytes + size_bytes > self._max_bytes:
            raise Overloaded(
                f"no room for {size_bytes} bytes in the node cache: "
                f"{ledger.total_bytes} of {self._max_bytes} bytes are in use"
            )

    def _evict(self, ledger: "_Ledger", size_bytes: int) -> None:
        """Recount; if `size_bytes` more do not fit, free room for them, oldest use first.

        At least a sixteenth of the budget is freed, so that reading the directory is paid for once
        in many puts.
        """
        residents = self.residents()
        ledger.total_bytes = sum(resident.size_bytes for resident in residents)
        if ledger.total_bytes + size_bytes > self._max_bytes:
            target_bytes = self._max_bytes - max(size_bytes, self._max_bytes // 16)
            self._evict_to(ledger, residents, target_bytes)

    def _evict_to(
        self, ledger: "_Ledger", residents: Sequence[Resident], target_bytes: int
    ) -> None:
        for resident in residents:
            if ledger.total_bytes <= target_bytes:
                return
            if _unlink_unlocked(self._path(resident.digest)):
                ledger.total_bytes -= resident.size_bytes
                self._evictions += 1

    def _write_or_evict(self, ledger: "_Ledger", path: Path, blob: bytes) -> None:
        """Write; where others have filled the disk, give up as many bytes and try once more."""
        try:
            self._write(path, blob)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._evict_to(ledger, self.residents(), ledger.total_bytes - len(blob))
            self._write(path, blob)

    def _write(self, path: Path, blob: bytes) -> None:
        # One name is enough: the ledger's lock admits one writer, who overwrites a crash's rest.
        incoming = self._directory / ".incoming"
        try:
            incoming.write_bytes(blob)
            os.replace(incoming, path)
        except OSError:
            incoming.unlink(missing_ok=True)
            raise

    @contextmanager
    def _ledger(self) -> Iterator["_Ledger"]:
        descriptor = os.open(self._directory / ".ledger", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            text = os.pread(descriptor, 32, 0).strip()
            ledger = _Ledger(int(text) if text.isdigit() else 0)
            try:
                yield ledger
            finally:
                os.pwrite(descriptor, b"%-31d\n" % ledger.total_bytes, 0)
        finally:
            os.close(descriptor)


@dataclass(slots=True)
class _Ledger:
    """Written back when its lock is released; a crash leaves it one blob off until a recount."""

    total_bytes: int


def _lock_shared(path: Path) -> int | None:
    """A descriptor that keeps `path` from eviction, or None when it is not there or going."""
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


def _unlink_unlocked(path: Path) -> bool:
    """Remove `path` unless some process has it pinned."""
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
