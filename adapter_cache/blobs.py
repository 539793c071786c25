"""A place that keeps row blobs by digest, and the fake of it. Never opens a payload."""

from typing import Protocol, runtime_checkable

from adapter_cache.arrival import Arrival
from contracts.adapters import Digest


class BlobTier(Protocol):
    """One tier behind the node cache: Redis, or the object store. `name` labels its metrics."""

    name: str

    async def get(self, digest: Digest) -> bytes | None:
        """The bytes kept under `digest`, unverified, or None. Raises StoreUnavailable."""
        ...

    async def put(self, digest: Digest, blob: bytes) -> None:
        """Keep `blob` in place of whatever is there. Raises StoreUnavailable."""
        ...


@runtime_checkable
class StreamedTier(Protocol):
    """A BlobTier whose bytes a thread can read, hash and write without the event loop."""

    def read(self, digest: Digest, size_bytes: int, arrival: Arrival) -> bool:
        """`get` for a thread: adds the bytes to `arrival` and blocks meanwhile; False: not here.

        `size_bytes` is what the blob should have. Raises StoreUnavailable.
        """
        ...


class MemoryBlobs:
    """BlobTier in one process, for tests."""

    def __init__(self, name: str = "memory") -> None:
        self.name = name
        self.blobs: dict[Digest, bytes] = {}

    async def get(self, digest: Digest) -> bytes | None:
        return self.blobs.get(digest)

    async def put(self, digest: Digest, blob: bytes) -> None:
        self.blobs[digest] = blob
