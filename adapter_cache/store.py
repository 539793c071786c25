"""Where adapters are published and looked up, and the fake of it. Never opens a payload."""

from collections.abc import Sequence
from typing import Protocol

from adapter_cache.digest import verify_blob
from contracts.adapters import (
    ADAPTER_NAME,
    AdapterKey,
    AdapterManifest,
    AdapterRef,
    Digest,
    TenantId,
)
from contracts.errors import InvalidAdapter, InvalidRequest


class AdapterStore(Protocol):
    """Registry and blobs. Every method may raise StoreUnavailable; none waits without a bound."""

    async def publish(
        self,
        tenant: TenantId,
        name: str,
        blob: bytes,
        *,
        digest: Digest,
        base_fingerprint: str,
        rank: int,
        num_modules: int,
        created_at_s: float,
    ) -> AdapterManifest:
        """Make `blob` the current version of `name`; the bytes first, then the pointer at once.

        Publishing the digest that is already current changes nothing and returns its manifest.
        Older versions stay. Raises InvalidAdapter for a bad name, AdapterCorrupt when `digest` is
        not the blob's.
        """
        ...

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        """The key of each ref in order, None where there is none, in one round trip for all."""
        ...

    async def describe(self, ref: AdapterRef) -> AdapterManifest | None:
        """The manifest that `ref` resolves to, or None."""
        ...

    async def versions(self, tenant: TenantId, name: str) -> list[AdapterManifest]:
        """All kept versions of `name`, oldest first; empty when there is no such adapter."""
        ...

    async def page(
        self, tenant: TenantId, cursor: str, limit: int
    ) -> tuple[list[AdapterManifest], str]:
        """Current manifests after `cursor` in order of name, and the next cursor.

        The cursor "" means the start as an argument, the end as a result. A name that stays
        published is seen exactly once whatever else changes meanwhile. Raises InvalidRequest
        when `limit` is not positive.
        """
        ...

    async def delete(self, tenant: TenantId, name: str) -> bool:
        """Forget `name` with all versions; False when there was none.

        Requests in flight finish. A version number is never used twice: publishing the name later
        goes on counting. Bytes that nothing refers to are left to garbage collection.
        """
        ...

    async def rollback(
        self, tenant: TenantId, name: str, version: int | None, created_at_s: float
    ) -> AdapterManifest | None:
        """Make an older version's bytes current again, as a new version; None: no such version.

        `version` None means the newest kept one whose digest is not the current one. Rolling back
        to the digest that is current changes nothing and returns the current manifest.
        """
        ...

    async def pin(self, ref: AdapterRef) -> AdapterManifest | None:
        """Keep a version (None: the current one) from being pruned; None: no such version."""
        ...

    async def unpin(self, ref: AdapterRef) -> AdapterManifest | None:
        """Undo `pin`; None when there is no such version."""
        ...

    async def pins(self, tenant: TenantId, name: str) -> frozenset[int]:
        """The pinned versions of `name`."""
        ...

    async def prefetch(self, ref: AdapterRef) -> AdapterManifest | None:
        """Bring a version's bytes to the quickest shared tier; None: no such version."""
        ...

    async def ping(self) -> None:
        """Return when the store answers, else raise StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections; the store is not used afterwards."""
        ...


def is_name(name: str) -> bool:
    """Whether `name` can name an adapter. Others are never looked up, so stay free for fields."""
    return ADAPTER_NAME.fullmatch(name) is not None


def require_name(name: str) -> None:
    """Raise InvalidAdapter unless `name` can name an adapter."""
    if not is_name(name):
        raise InvalidAdapter(
            f"adapter name {name[:100]!r} must match {ADAPTER_NAME.pattern}", param="name"
        )


def require_limit(limit: int) -> None:
    """Raise InvalidRequest unless `limit` is a page size."""
    if limit < 1:
        raise InvalidRequest(f"a page holds at least 1 adapter, not {limit}", param="limit")


class MemoryStore:
    """AdapterStore in one process, for tests and for running without Redis; obeys its contract."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}
        self._versions: dict[TenantId, dict[str, list[AdapterManifest]]] = {}

    async def publish(
        self,
        tenant: TenantId,
        name: str,
        blob: bytes,
        *,
        digest: Digest,
        base_fingerprint: str,
        rank: int,
        num_modules: int,
        created_at_s: float,
    ) -> AdapterManifest:
        require_name(name)
        verify_blob(digest, blob)
        self._blobs.setdefault(digest, blob)
        kept = self._versions.setdefault(tenant, {}).setdefault(name, [])
        if kept and kept[-1].key.digest == digest:
            return kept[-1]
        key = AdapterKey(tenant, name, len(kept) + 1, digest, len(blob))
        kept.append(AdapterManifest(key, base_fingerprint, rank, num_modules, created_at_s))
        return kept[-1]

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        found = [self._find(ref) for ref in refs]
        return [manifest.key if manifest else None for manifest in found]

    async def fetch(self, digest: Digest) -> bytes | None:
        return self._blobs.get(digest)

    async def describe(self, ref: AdapterRef) -> AdapterManifest | None:
        return self._find(ref)

    async def versions(self, tenant: TenantId, name: str) -> list[AdapterManifest]:
        return list(self._versions.get(tenant, {}).get(name, ()))

    async def page(
        self, tenant: TenantId, cursor: str, limit: int
    ) -> tuple[list[AdapterManifest], str]:
        require_limit(limit)
        kept = self._versions.get(tenant, {})
        names = sorted(name for name in kept if name > cursor)
        page = [kept[name][-1] for name in names[:limit]]
        return page, names[limit - 1] if len(names) > limit else ""

    async def delete(self, tenant: TenantId, name: str) -> bool:
        gone = self._versions.get(tenant, {}).pop(name, [])
        used = {
            manifest.key.digest
            for names in self._versions.values()
            for kept in names.values()
            for manifest in kept
        }
        for digest in {manifest.key.digest for manifest in gone} - used:
            self._blobs.pop(digest, None)
        return bool(gone)

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def __repr__(self) -> str:
        num_names = sum(map(len, self._versions.values()))
        return f"<MemoryStore {num_names} adapters, {len(self._blobs)} blobs>"

    def _find(self, ref: AdapterRef) -> AdapterManifest | None:
        kept = self._versions.get(ref.tenant, {}).get(ref.name, [])
        version = len(kept) if ref.version is None else ref.version
        return kept[version - 1] if 1 <= version <= len(kept) else None
