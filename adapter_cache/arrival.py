"""A blob on its way in: kept in pieces, hashed as they come. Knows no tier."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from adapter_cache.digest import verify_digest
from contracts.adapters import Digest


class Arrival:
    """Pieces in their order. Nothing is known of them until the last one is there."""

    def __init__(self, pieces: Iterable[bytes] = ()) -> None:
        self.pieces: list[bytes] = []
        self.size_bytes = 0
        self._hash = hashlib.sha256()
        for piece in pieces:
            self.add(piece)

    def add(self, piece: bytes) -> None:
        """The next piece; hashing a large one releases the GIL."""
        self.pieces.append(piece)
        self.size_bytes += len(piece)
        self._hash.update(piece)

    def verify(self, digest: Digest) -> None:
        """Raise AdapterCorrupt unless the pieces are the bytes that `digest` names."""
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
