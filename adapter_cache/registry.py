"""Which versions of which adapters exist, as requests see them. Holds no bytes."""

from collections.abc import Collection, Sequence
from typing import Protocol

from contracts.adapters import AdapterKey, AdapterManifest, AdapterRef, TenantId


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
        """Drop some older versions; never the current one, which is left as it is."""
        ...

    async def remove(self, tenant: TenantId, name: str, up_to: int) -> list[AdapterManifest]:
        """Drop the name with all versions, in one atomic step, unless a version above `up_to`
        is current: then only those up to it. Returns what is gone.
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

    async def ping(self) -> None:
        """Return when the registry answers, else raise StoreUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
