"""The adapter store whose truth is an object store, with a registry and a hot tier before it."""

import asyncio
from collections.abc import Sequence

from adapter_cache.blobs import BlobTier
from adapter_cache.changes import ChangeFeed
from adapter_cache.digest import verify_blob
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.history import as_version, rollback_target
from adapter_cache.registry import Registry
from adapter_cache.store import is_name, require_name, require_room
from adapter_cache.version_entry import live_versions
from adapter_cache.version_log import VersionLog, end_dead
from contracts.adapters import AdapterKey, AdapterManifest, AdapterRef, Digest, TenantId
from contracts.errors import AdapterCorrupt


class DurableAdapterStore:
    """AdapterStore: reads ask the registry alone, writes go through the object store first.

    Without the object store names still resolve, and nothing can be published, rolled back,
    pinned, shared or deleted. `hot` is optional to a publish: it is filled, or a line is logged.
    `feed` hears of moved versions. Closes the registry and the object store.
    """

    def __init__(
        self,
        registry: Registry,
        hot: BlobTier,
        objects: FsspecObjects,
        feed: ChangeFeed,
        *,
        keep_versions: int,
    ) -> None:
        self._registry = registry
        self._hot = hot
        self._objects = objects
        self._log = VersionLog(registry, hot, objects, feed, keep_versions=keep_versions)

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
        """See AdapterStore. Racing publishes of one digest make one version unless another
        publish or a delete comes between them.
        """
        require_name(name)
        await asyncio.to_thread(verify_blob, digest, blob)
        key = AdapterKey(tenant, name, 0, digest, len(blob))
        draft = AdapterManifest(key, base_fingerprint, rank, num_modules, created_at_s)
        return await self._log.append(draft, blob)

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        return await self._registry.resolve(refs)

    async def describe(self, ref: AdapterRef) -> AdapterManifest | None:
        return await self._registry.describe(ref)

    async def versions(self, tenant: TenantId, name: str) -> list[AdapterManifest]:
        return await self._registry.versions(tenant, name)

    async def page(
        self, tenant: TenantId, cursor: str, limit: int
    ) -> tuple[list[AdapterManifest], str]:
        return await self._registry.page(tenant, cursor, limit)

    async def delete(self, tenant: TenantId, name: str) -> bool:
        return await self._log.end(tenant, name) if is_name(name) else False

    async def rollback(
        self, tenant: TenantId, name: str, version: int | None, created_at_s: float
    ) -> AdapterManifest | None:
        if not is_name(name):
            return None
        kept = live_versions(await self._objects.entries(tenant, name))
        target = rollback_target(kept, version)
        if target is None:
            return None
        if target.key.digest == kept[-1].key.digest:
            target = kept[-1]
        # Written again like any publish: that keeps the collector from taking the bytes.
        blob = await self._bytes_of(target.key)
        return await self._log.append(as_version(target, 0, created_at_s), blob)

    async def pin(self, ref: AdapterRef) -> AdapterManifest | None:
        found = await self._registry.describe(ref)
        if found is None:
            return None
        version = found.key.version
        await self._objects.pin(ref.tenant, ref.name, version)
        if version not in (await self._objects.name_files(ref.tenant, ref.name)).entries:
            # Pruned or deleted just before the mark was there.
            await self._objects.unpin(ref.tenant, ref.name, version)
            return None
        await self._registry.pin(ref.tenant, ref.name, version)
        return found

    async def unpin(self, ref: AdapterRef) -> AdapterManifest | None:
        found = await self._registry.describe(ref)
        if found is not None:
            await self._objects.unpin(ref.tenant, ref.name, found.key.version)
            await self._registry.unpin(ref.tenant, ref.name, found.key.version)
        return found

    async def pins(self, tenant: TenantId, name: str) -> frozenset[int]:
        return await self._registry.pins(tenant, name)

    async def share(self, tenant: TenantId, name: str, reader: TenantId) -> AdapterManifest | None:
        found = await self._registry.describe(AdapterRef(tenant, name))
        if found is None:
            return None
        version = found.key.version
        before = (await self._objects.name_files(tenant, name)).shares
        require_room({other for _, other in before}, reader)
        await self._objects.share(tenant, name, version, reader)
        await self._registry.share(tenant, name, reader, version)
        # Deleted meanwhile? A later adapter of this name must not be shared by it.
        files = await self._objects.name_files(tenant, name)
        has_ended = await end_dead(self._registry, self._objects, files, above=version)
        mine = {share for share in files.shares if share[1] == reader}
        stale = mine if has_ended else mine - {(version, reader)}
        await self._objects.unshare(tenant, name, stale)
        return None if has_ended else found

    async def unshare(
        self, tenant: TenantId, name: str, reader: TenantId
    ) -> AdapterManifest | None:
        found = await self._registry.describe(AdapterRef(tenant, name))
        if found is not None:
            files = await self._objects.name_files(tenant, name)
            mine = {share for share in files.shares if share[1] == reader}
            await self._objects.unshare(tenant, name, mine)
            await self._registry.unshare(tenant, name, reader)
        return found

    async def shares(self, tenant: TenantId, name: str) -> frozenset[TenantId]:
        return frozenset(await self._registry.shares(tenant, name))

    async def prefetch(self, ref: AdapterRef) -> AdapterManifest | None:
        found = await self._registry.describe(ref)
        if found is not None and await self._hot.get(found.key.digest) is None:
            await self._hot.put(found.key.digest, await self._bytes_of(found.key))
        return found

    async def ping(self) -> None:
        """The registry alone: without the object store, what is published is still served."""
        await self._registry.ping()

    async def close(self) -> None:
        await self._registry.close()
        await self._objects.close()

    def __repr__(self) -> str:
        return f"<DurableAdapterStore {self._registry!r}, {self._objects!r}>"

    async def _bytes_of(self, key: AdapterKey) -> bytes:
        """Verified bytes from the object store. Raises AdapterCorrupt where they are lost."""
        blob = await self._objects.get_blob(key.digest)
        if blob is None:
            raise AdapterCorrupt(f"the object store has lost version {key.version} of {key.name!r}")
        await asyncio.to_thread(verify_blob, key.digest, blob)
        return blob
