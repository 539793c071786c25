"""A blob on its way in: kept in pieces, hashed while the next one comes. Knows no tier."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import Executor, Future
from pathlib import Path
from queue import SimpleQueue

from adapter_cache.digest import verify_digest
from contracts.adapters import Digest


class Arrival:
    """Pieces in their order. Nothing is known of them until the last one is there.

    With `hasher`, one of its threads hashes while the caller goes on, and `verify` waits for it.
    `close` ends it; nothing is added afterwards.
    """

    def __init__(self, pieces: Iterable[bytes] = (), hasher: Executor | None = None) -> None:
        self.pieces: list[bytes] = []
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        self._unhashed: SimpleQueue[bytes | None] = SimpleQueue()
        self._hashing: Future[None] | None = None
        if hasher is not None:
            self._hashing = hasher.submit(self._hash_all)
        for piece in pieces:
            self.add(piece)

    def add(self, piece: bytes) -> None:
        """The next piece. None comes after `verify`."""
        self.pieces.append(piece)
        self.size_bytes += len(piece)
        if self._hashing is None:
            self._hash.update(piece)
        else:
            self._unhashed.put(piece)

    def close(self) -> None:
        """No more pieces come. Safe more than once."""
        self._unhashed.put(None)

    def verify(self, digest: Digest) -> None:
        """Raise AdapterCorrupt unless the pieces are the bytes that `digest` names."""
        if self._hashing is not None:
            self.close()
            self._hashing.result()
        verify_digest(digest, Digest(self._hash.hexdigest()), self.size_bytes)

    def write(self, path: Path) -> None:
        """Into a file, in place of what it holds."""
        with path.open("wb") as file:
            file.writelines(self.pieces)

    def joined(self) -> bytes:
        """The blob as one."""
        return b"".join(self.pieces)

    def __repr__(self) -> str:
        return f"<Arrival {self.size_bytes} bytes in {len(self.pieces)} pieces>"

    def _hash_all(self) -> None:
        while (piece := self._unhashed.get()) is not None:
            self._hash.update(piece)
