"""A durable store in one process, whose dependencies a test can trouble."""

from dataclasses import dataclass, field
from typing import Any

from adapter_cache.blobs import MemoryBlobs
from adapter_cache.changes import MemoryFeed
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.registry import MemoryRegistry
from contracts.adapters import DEFAULT_TENANT, AdapterChange, AdapterRef
from contracts.errors import StoreUnavailable
from tests.adapter_cache.steps import Act, watched

ADA = AdapterRef(DEFAULT_TENANT, "ada")
DOWN = StoreUnavailable("down")


class RecordingFeed(MemoryFeed):
    def __init__(self) -> None:
        super().__init__()
        self.announced: list[AdapterChange] = []

    async def announce(self, change: AdapterChange) -> None:
        self.announced.append(change)


@dataclass
class Parts:
    """What stores are made of; each store may see its own troubles with them."""

    objects: FsspecObjects
    registry: MemoryRegistry = field(default_factory=MemoryRegistry)
    hot: MemoryBlobs = field(default_factory=MemoryBlobs)
    feed: RecordingFeed = field(default_factory=RecordingFeed)

    def store(self, keep_versions: int = 100, **acts: Act) -> DurableAdapterStore:
        parts: Any = {
            name: watched(getattr(self, name), acts[name]) if name in acts else getattr(self, name)
            for name in ("registry", "hot", "objects", "feed")
        }
        return DurableAdapterStore(**parts, keep_versions=keep_versions)

    async def num_blobs(self) -> int:
        return len([blob async for blob in self.objects.blobs()])
