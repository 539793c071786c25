"""Adapter blobs as files on one node. Knows nothing of stores, tenants or names.

    <directory>/<digest>    one blob; its time of modification is when it was last used
    <directory>/.incoming   the blob being written
    <directory>/.ledger     sum of the blobs' sizes in bytes; its lock guards every change
    <directory>/.frequency  how often digests were pinned lately, also of blobs that are gone

The directory is the only state, so it is warm after a restart, and processes can share it, its
budget and what is known of the uses. A pin is a shared lock on a blob's file: eviction skips locked
files, and the kernel drops the lock when the process that pinned it dies.
"""

import errno
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from adapter_cache.arrival import Arrival
from adapter_cache.digest import is_digest, require_digest, verify_blob
from adapter_cache.eviction import Resident, bytes_to_free, eviction_order
from adapter_cache.frequency_file import open_sketch
from adapter_cache.node_ledger import Ledger, locked_ledger, read_total_bytes
from adapter_cache.node_pins import NodePins, unlink_unpinned
from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt, Overloaded


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """How full the node is, and how many blobs this process has evicted from it."""

    used_bytes: int
    budget_bytes: int
    evictions: int


class NodeCache:
    """The blobs most used lately within `max_bytes`, on a directory that should be tmpfs.

    A use is a `pin`; `get` and `put` only count as recent. What leaves first: eviction.py.

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
        self._pins = NodePins()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._ledger() as ledger:
            self._frequency = open_sketch(directory / ".frequency")
            self._evict(ledger, 0)

    def get(self, digest: Digest) -> Path | None:
        """The blob's file, the most recent now, or None. Pin it to keep it."""
        path = self._path(digest)
        try:
            self._touch(path)
        except FileNotFoundError:
            return None
        return path

    def has(self, digest: Digest) -> bool:
        """Whether the file is there, without counting as a use of it."""
        return self._path(digest).exists()

    def put(self, digest: Digest, blob: bytes | Arrival) -> Path:
        """Keep `blob`, evicting others; the file appears whole or not at all.

        Raises AdapterCorrupt when the digest is not the blob's, Overloaded when pinned blobs or the
        disk leave no room.
        """
        path = self._path(digest)
        arrival = blob if isinstance(blob, Arrival) else Arrival([blob])
        arrival.verify(digest)
        try:
            with self._ledger() as ledger:
                if not path.exists():
                    self._make_room(ledger, arrival.size_bytes)
                    self._write_or_evict(ledger, path, arrival)
                    ledger.total_bytes += arrival.size_bytes
                self._touch(path)
        except OSError as error:
            raise Overloaded(f"cannot write to the node cache: {error.strerror}") from error
        return path

    def pin(self, digest: Digest) -> Path | None:
        """Use the blob, and keep it until as many `unpin`s as `pin`s; None when it is not here."""
        path = self._path(digest)
        descriptor = self._pins.pin(digest, path)
        if descriptor is None:
            return None
        self._touch(descriptor)
        self._frequency.add(digest)
        return path

    def unpin(self, digest: Digest) -> None:
        """Undo one `pin`."""
        self._pins.unpin(digest)

    def drop(self, digest: Digest) -> bool:
        """Remove the blob now; False when it is not here or some process has it pinned."""
        path = self._path(digest)
        with self._ledger() as ledger:
            try:
                size_bytes = path.stat().st_size
            except FileNotFoundError:
                return False
            if not unlink_unpinned(path):
                return False
            ledger.total_bytes -= size_bytes
            return True

    def usage(self) -> NodeUsage:
        """What the ledger says now, without its lock."""
        used_bytes = read_total_bytes(self._directory / ".ledger")
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
            lost = self._pins.digests() - {resident.digest for resident in residents}
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
            f"{len(self._pins.digests())} pinned>"
        )

    def _path(self, digest: Digest) -> Path:
        return self._directory / require_digest(digest)

    def _touch(self, file: Path | int) -> None:
        now_ns = self._clock_ns()
        os.utime(file, ns=(now_ns, now_ns))

    def _make_room(self, ledger: Ledger, size_bytes: int) -> None:
        # What can never fit must not empty the cache first.
        if size_bytes <= self._max_bytes < ledger.total_bytes + size_bytes:
            self._evict(ledger, size_bytes)
        if ledger.total_bytes + size_bytes > self._max_bytes:
            raise Overloaded(
                f"no room for {size_bytes} bytes in the node cache: "
                f"{ledger.total_bytes} of {self._max_bytes} bytes are in use"
            )

    def _evict(self, ledger: Ledger, size_bytes: int) -> None:
        """Recount; if `size_bytes` more do not fit, free room for them."""
        residents = self.residents()
        ledger.total_bytes = sum(resident.size_bytes for resident in residents)
        self._free(
            ledger, residents, bytes_to_free(ledger.total_bytes, size_bytes, self._max_bytes)
        )

    def _free(self, ledger: Ledger, residents: list[Resident], num_bytes: int) -> None:
        if num_bytes <= 0:
            return
        self._frequency.age(len(residents))
        target_bytes = ledger.total_bytes - num_bytes
        for resident in eviction_order(residents, self._frequency.estimate):
            if ledger.total_bytes <= target_bytes:
                return
            if unlink_unpinned(self._path(resident.digest)):
                ledger.total_bytes -= resident.size_bytes
                self._evictions += 1

    def _write_or_evict(self, ledger: Ledger, path: Path, arrival: Arrival) -> None:
        """Write; where others have filled the disk, give up as many bytes and try once more."""
        try:
            self._write(path, arrival)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            self._free(ledger, self.residents(), arrival.size_bytes)
            self._write(path, arrival)

    def _write(self, path: Path, arrival: Arrival) -> None:
        # One name is enough: the ledger's lock admits one writer, who overwrites a crash's rest.
        incoming = self._directory / ".incoming"
        try:
            arrival.write(incoming)
            os.replace(incoming, path)
        except OSError:
            incoming.unlink(missing_ok=True)
            raise

    def _ledger(self) -> AbstractContextManager[Ledger]:
        return locked_ledger(self._directory / ".ledger")
