"""Factories for the tests of the cache: bytes, their names, and a store that can be held up."""

import asyncio
import hashlib
from collections.abc import Mapping

from adapter_cache.store import AdapterStore, MemoryStore
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterManifest, Digest, TenantId


def make_blob(seed: int, size_bytes: int = 100) -> bytes:
    return hashlib.shake_128(seed.to_bytes(8, "little")).digest(size_bytes)


def digest_of(blob: bytes) -> Digest:
    return Digest(hashlib.sha256(blob).hexdigest())


def make_key(blob: bytes, name: str = "ada") -> AdapterKey:
    return AdapterKey(DEFAULT_TENANT, name, 1, digest_of(blob), len(blob))


async def publish(
    store: AdapterStore,
    name: str,
    blob: bytes,
    tenant: TenantId = DEFAULT_TENANT,
    created_at_s: float = 1_700_000_000.125,
) -> AdapterManifest:
    return await store.publish(
        tenant,
        name,
        blob,
        digest=digest_of(blob),
        base_fingerprint="sha256:base",
        rank=4,
        num_modules=120,
        created_at_s=created_at_s,
    )


class CountingStore(MemoryStore):
    """A store whose fetches count themselves and wait until `gate` opens."""

    def __init__(self, blobs: Mapping[Digest, bytes]) -> None:
        super().__init__()
        self.served = dict(blobs)
        self.gate = asyncio.Event()
        self.started = asyncio.Semaphore(0)
        self.num_fetches = 0
        self.num_now = 0
        self.max_now = 0

    async def get(self, digest: Digest) -> bytes | None:
        self.num_fetches += 1
        self.started.release()
        self.num_now += 1
        self.max_now = max(self.max_now, self.num_now)
        try:
            await self.gate.wait()
        finally:
            self.num_now -= 1
        return self.served.get(digest)
