"""Which versions of which adapters exist, as requests see them, and the fake of it. No bytes."""

from collections.abc import Collection, Sequence
from typing import Protocol

from adapter_cache.store import require_limit
from contracts.adapters import PUBLIC, AdapterKey, AdapterManifest, AdapterRef, TenantId


class Registry(Protocol):
    """The quick copy of what the object store says. Every method may raise StoreUnavailable."""

    async def advance(self, manifest: AdapterManifest) -> AdapterKey | None:
        """Record a version in one atomic step; it becomes current unless a higher one is.

        Returns the key that was current before (None: the name is new). Again is nothing.
        """
        ...

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        """The key of each ref in order, None where there is none, in one round trip for all."""
        ...

    async def describe(self, ref: AdapterRef) -> AdapterManifest | None:
        """The manifest that `ref` resolves to, or None."""
        ...

    async def versions(self, tenant: TenantId, name: str) -> list[AdapterManifest]:
        """All recorded versions of `name`, lowest first."""
        ...

    async def page(
        self, tenant: TenantId, cursor: str, limit: int
    ) -> tuple[list[AdapterManifest], str]:
        """See AdapterStore.page."""
        ...

    async def forget(self, tenant: TenantId, name: str, versions: Collection[int]) -> None:
        """Drop some older versions; never the current one, which is left as it is. Pins stay."""
        ...

    async def remove(self, tenant: TenantId, name: str, up_to: int) -> list[AdapterManifest]:
        """Drop the name with all versions, in one atomic step, unless a version above `up_to`
        is current: then only those up to it. Pins and shares go with their versions. Returns what
        is gone, lowest version first.
        """
        ...

    async def pin(self, tenant: TenantId, name: str, version: int) -> None:
        """Mark a version as kept. Again is nothing."""
        ...

    async def unpin(self, tenant: TenantId, name: str, version: int) -> None:
        """Take the mark away. Again is nothing."""
        ...

    async def pins(self, tenant: TenantId, name: str) -> frozenset[int]:
        """The versions of `name` that are pinned."""
        ...

    async def share(self, tenant: TenantId, name: str, reader: TenantId, version: int) -> None:
        """Let `reader` (PUBLIC: everybody) resolve the name from now on, as long as it exists.

        `version` was current when it was shared: a `remove` up to that one or a higher one ends
        the share.
        """
        ...

    async def unshare(self, tenant: TenantId, name: str, reader: TenantId) -> None:
        """Undo `share`. Again is nothing."""
        ...

    async def shares(self, tenant: TenantId, name: str) -> dict[TenantId, int]:
        """With whom `name` is shared, each with the version of `share`."""
        ...

    async def ping(self) -> None:
        """Return when the registry answers, else raise StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class MemoryRegistry:
    """Registry in one process, for tests and for running without Redis; obeys its contract."""

    def __init__(self) -> None:
        self._versions: dict[TenantId, dict[str, dict[int, AdapterManifest]]] = {}
        self._pins: dict[tuple[TenantId, str], set[int]] = {}
        self._shares: dict[tuple[TenantId, str], dict[TenantId, int]] = {}

    async def advance(self, manifest: AdapterManifest) -> AdapterKey | None:
        key = manifest.key
        kept = self._versions.setdefault(key.tenant, {}).setdefault(key.name, {})
        before = kept[max(kept)].key if kept else None
        kept[key.version] = manifest
        return before

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        found = [await self.describe(ref) for ref in refs]
        return [manifest.resolved if manifest else None for manifest in found]

    async def describe(self, ref: AdapterRef) -> AdapterManifest | None:
        kept = self._kept(ref.tenant, ref.name) if self._is_readable(ref) else {}
        version = max(kept, default=0) if ref.version is None else ref.version
        return kept.get(version)

    async def versions(self, tenant: TenantId, name: str) -> list[AdapterManifest]:
        kept = self._kept(tenant, name)
        return [kept[version] for version in sorted(kept)]

    async def page(
        self, tenant: TenantId, cursor: str, limit: int
    ) -> tuple[list[AdapterManifest], str]:
        require_limit(limit)
        names = sorted(name for name in self._versions.get(tenant, {}) if name > cursor)
        page = [self._versions[tenant][name] for name in names[:limit]]
        current = [kept[max(kept)] for kept in page]
        return current, names[limit - 1] if len(names) > limit else ""

    async def forget(self, tenant: TenantId, name: str, versions: Collection[int]) -> None:
        kept = self._kept(tenant, name)
        for version in set(versions) & set(kept) - {max(kept, default=0)}:
            del kept[version]

    async def remove(self, tenant: TenantId, name: str, up_to: int) -> list[AdapterManifest]:
        kept = self._kept(tenant, name)
        gone = [kept.pop(version) for version in sorted(kept) if version <= up_to]
        self._pins.get((tenant, name), set()).difference_update(one.key.version for one in gone)
        for reader, version in list(self._shares.get((tenant, name), {}).items()):
            if version <= up_to:
                del self._shares[tenant, name][reader]
        if gone and not kept:
            del self._versions[tenant][name]
            self._pins.pop((tenant, name), None)
            self._shares.pop((tenant, name), None)
        return gone

    async def pin(self, tenant: TenantId, name: str, version: int) -> None:
        self._pins.setdefault((tenant, name), set()).add(version)

    async def unpin(self, tenant: TenantId, name: str, version: int) -> None:
        self._pins.get((tenant, name), set()).discard(version)

    async def pins(self, tenant: TenantId, name: str) -> frozenset[int]:
        return frozenset(self._pins.get((tenant, name), ()))

    async def share(self, tenant: TenantId, name: str, reader: TenantId, version: int) -> None:
        self._shares.setdefault((tenant, name), {})[reader] = version

    async def unshare(self, tenant: TenantId, name: str, reader: TenantId) -> None:
        self._shares.get((tenant, name), {}).pop(reader, None)

    async def shares(self, tenant: TenantId, name: str) -> dict[TenantId, int]:
        return dict(self._shares.get((tenant, name), {}))

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def __repr__(self) -> str:
        return f"<MemoryRegistry {sum(map(len, self._versions.values()))} adapters>"

    def _is_readable(self, ref: AdapterRef) -> bool:
        shares = self._shares.get((ref.tenant, ref.name), {})
        return ref.reader is None or ref.reader in shares or PUBLIC in shares

    def _kept(self, tenant: TenantId, name: str) -> dict[int, AdapterManifest]:
        return self._versions.get(tenant, {}).get(name, {})
