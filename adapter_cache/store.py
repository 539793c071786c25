"""Where adapters are published and looked up, and the fake of it. Never opens a payload."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from typing import Protocol

from adapter_cache.digest import verify_blob
from adapter_cache.history import as_version, outdated, rollback_target
from contracts.adapters import (
    ADAPTER_NAME,
    PUBLIC,
    AdapterKey,
    AdapterManifest,
    AdapterRef,
    Digest,
    TenantId,
)
from contracts.errors import InvalidAdapter, InvalidRequest

MAX_SHARES = 1000
"""Tenants that one adapter is shared with."""


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
        The newest versions and the pinned ones stay, others are pruned. Raises InvalidAdapter for
        a bad name, AdapterCorrupt when `digest` is not the blob's. After StoreUnavailable the
        version may or may not exist: publishing the same bytes again settles it.
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

    async def share(self, tenant: TenantId, name: str, reader: TenantId) -> AdapterManifest | None:
        """Let `reader` (PUBLIC: every tenant) resolve and describe all versions of `name`, until
        it is deleted; None: no such adapter. Raises InvalidRequest beyond `MAX_SHARES` readers.
        """
        ...

    async def unshare(
        self, tenant: TenantId, name: str, reader: TenantId
    ) -> AdapterManifest | None:
        """Undo `share`; again is nothing. None: no such adapter."""
        ...

    async def shares(self, tenant: TenantId, name: str) -> frozenset[TenantId]:
        """With whom `name` is shared."""
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


def require_room(readers: Collection[TenantId], reader: TenantId) -> None:
    """Raise InvalidRequest where an adapter with these readers cannot have one more."""
    if len({*readers, reader}) > MAX_SHARES:
        raise InvalidRequest(f"an adapter is shared with at most {MAX_SHARES} tenants", "tenant")


def require_limit(limit: int) -> None:
    """Raise InvalidRequest unless `limit` is a page size."""
    if limit < 1:
        raise InvalidRequest(f"a page holds at least 1 adapter, not {limit}", param="limit")


class MemoryStore:
    """AdapterStore in one process, for tests; obeys its contract. Also the BlobTier of its blobs,
    of which it forgets none.
    """

    name = "memory"

    def __init__(self, keep_versions: int = 10) -> None:
        self.blobs: dict[Digest, bytes] = {}
        self._keep_versions = keep_versions
        self._versions: dict[TenantId, dict[str, list[AdapterManifest]]] = {}
        self._shares: defaultdict[tuple[TenantId, str], set[TenantId]] = defaultdict(set)
        self._pins: defaultdict[tuple[TenantId, str], set[int]] = defaultdict(set)
        self._last: Counter[tuple[TenantId, str]] = Counter()

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
        self.blobs[digest] = blob
        key = AdapterKey(tenant, name, 0, digest, len(blob))
        draft = AdapterManifest(key, base_fingerprint, rank, num_modules, created_at_s)
        return self._append(draft, created_at_s)

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        found = [self._find(ref) for ref in refs]
        return [manifest.resolved if manifest else None for manifest in found]

    async def get(self, digest: Digest) -> bytes | None:
        return self.blobs.get(digest)

    async def put(self, digest: Digest, blob: bytes) -> None:
        self.blobs[digest] = blob

    async def fetch(self, digest: Digest) -> bytes | None:
        return await self.get(digest)

    async def describe(self, ref: AdapterRef) -> AdapterManifest | None:
        return self._find(ref)

    async def versions(self, tenant: TenantId, name: str) -> list[AdapterManifest]:
        return list(self._kept(tenant, name))

    async def page(
        self, tenant: TenantId, cursor: str, limit: int
    ) -> tuple[list[AdapterManifest], str]:
        require_limit(limit)
        kept = self._versions.get(tenant, {})
        names = sorted(name for name in kept if name > cursor)
        page = [kept[name][-1] for name in names[:limit]]
        return page, names[limit - 1] if len(names) > limit else ""

    async def delete(self, tenant: TenantId, name: str) -> bool:
        if not self._versions.get(tenant, {}).pop(name, []):
            return False
        self._pins.pop((tenant, name), None)
        self._shares.pop((tenant, name), None)
        self._last[tenant, name] += 1
        return True

    async def rollback(
        self, tenant: TenantId, name: str, version: int | None, created_at_s: float
    ) -> AdapterManifest | None:
        target = rollback_target(self._kept(tenant, name), version)
        return None if target is None else self._append(target, created_at_s)

    async def pin(self, ref: AdapterRef) -> AdapterManifest | None:
        if found := self._find(ref):
            self._pins[ref.tenant, ref.name].add(found.key.version)
        return found

    async def unpin(self, ref: AdapterRef) -> AdapterManifest | None:
        if found := self._find(ref):
            self._pins[ref.tenant, ref.name].discard(found.key.version)
        return found

    async def pins(self, tenant: TenantId, name: str) -> frozenset[int]:
        return frozenset(self._pins.get((tenant, name), ()))

    async def share(self, tenant: TenantId, name: str, reader: TenantId) -> AdapterManifest | None:
        if found := self._find(AdapterRef(tenant, name)):
            require_room(self._shares[tenant, name], reader)
            self._shares[tenant, name].add(reader)
        return found

    async def unshare(
        self, tenant: TenantId, name: str, reader: TenantId
    ) -> AdapterManifest | None:
        self._shares[tenant, name].discard(reader)
        return self._find(AdapterRef(tenant, name))

    async def shares(self, tenant: TenantId, name: str) -> frozenset[TenantId]:
        return frozenset(self._shares.get((tenant, name), ()))

    async def prefetch(self, ref: AdapterRef) -> AdapterManifest | None:
        return self._find(ref)

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def __repr__(self) -> str:
        num_names = sum(map(len, self._versions.values()))
        return f"<MemoryStore {num_names} adapters, {len(self.blobs)} blobs>"

    def _kept(self, tenant: TenantId, name: str) -> list[AdapterManifest]:
        return self._versions.get(tenant, {}).get(name, [])

    def _find(self, ref: AdapterRef) -> AdapterManifest | None:
        readers = self._shares.get((ref.tenant, ref.name), set())
        is_open = ref.reader is None or ref.reader in readers or PUBLIC in readers
        kept = self._kept(ref.tenant, ref.name) if is_open else []
        if ref.version is None:
            return kept[-1] if kept else None
        return next((each for each in kept if each.key.version == ref.version), None)

    def _append(self, draft: AdapterManifest, created_at_s: float) -> AdapterManifest:
        tenant, name = draft.key.tenant, draft.key.name
        kept = self._versions.setdefault(tenant, {}).setdefault(name, [])
        if kept and kept[-1].key.digest == draft.key.digest:
            return kept[-1]
        self._last[tenant, name] += 1
        kept.append(as_version(draft, self._last[tenant, name], created_at_s))
        numbers = [each.key.version for each in kept]
        pruned = outdated(numbers, self._pins[tenant, name], self._keep_versions)
        kept[:] = [each for each in kept if each.key.version not in pruned]
        return kept[-1]
