"""What a tenant does with its own adapters, whichever way it asks. Knows nothing of HTTP or gRPC.

Another tenant's adapter, a name that cannot be one and one that is not there are all the same:
UnknownModel.
"""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from app.door import Door
from contracts.access import Caller
from contracts.adapters import ADAPTER_NAME, AdapterManifest, AdapterRef
from contracts.errors import InvalidRequest, Overloaded

MAX_VERSION = 999_999_999


@dataclass(frozen=True, slots=True)
class KeptVersions:
    """All kept versions, oldest first, the last one current, and the numbers of pinned ones."""

    manifests: Sequence[AdapterManifest]
    pins: frozenset[int]


async def list_page(
    door: Door, caller: Caller, after: str, limit: int
) -> tuple[list[AdapterManifest], str]:
    """Current versions in order of name after the name `after`, and the next `after` or "".

    Raises InvalidRequest, StoreUnavailable.
    """
    if after and not ADAPTER_NAME.fullmatch(after):
        raise InvalidRequest("'after' is not an adapter's name", "after")
    await door.guard.require_whole()
    manifests, cursor = await door.store.page(caller.tenant, after, limit)
    return list(manifests), cursor


async def show(door: Door, caller: Caller, name: str) -> KeptVersions:
    """One adapter. Raises UnknownModel, StoreUnavailable."""
    versions = await door.store.versions(caller.tenant, name) if _named(name) else []
    if not versions:
        raise await door.unknown(name)
    await door.guard.require_whole()
    return KeptVersions(versions, frozenset(await door.store.pins(caller.tenant, name)))


async def delete(door: Door, caller: Caller, name: str) -> None:
    """Forget the adapter with all its versions. Raises UnknownModel."""
    if not _named(name) or not await door.store.delete(caller.tenant, name):
        raise await door.unknown(name)


async def rollback(door: Door, caller: Caller, name: str, version: int | None) -> AdapterManifest:
    """Make an older version's bytes current; None is the one before. Raises UnknownModel,
    InvalidRequest where there is no other version.
    """
    if _named(name):
        manifest = await door.store.rollback(caller.tenant, name, version, door.clock())
        if manifest is not None:
            return manifest
        # Nothing to go back to is another fault than nothing there.
        current = None
        if version is None:
            current = await door.store.describe(AdapterRef(caller.tenant, name))
        if current is not None:
            raise InvalidRequest(f"adapter '{name}' has no other version to go back to", "version")
    raise await door.unknown(_shown(name, version))


async def prefetch(door: Door, caller: Caller, name: str, version: int | None) -> AdapterManifest:
    """Have the bytes brought to Redis, and tell the replicas. Raises UnknownModel, Overloaded."""
    found = door.store.prefetch(AdapterRef(caller.tenant, name, version)) if _named(name) else None
    manifest = await _known(door, found, name, version)
    model = await door.model_of(manifest)
    if not model.prefetcher.tell((manifest.key,)):
        raise Overloaded("Too many prefetches at a time.")
    return manifest


async def pin(door: Door, caller: Caller, name: str, version: int | None) -> AdapterManifest:
    """Keep a version from being pruned. Raises UnknownModel."""
    found = door.store.pin(AdapterRef(caller.tenant, name, version)) if _named(name) else None
    return await _known(door, found, name, version)


async def unpin(door: Door, caller: Caller, name: str, version: int | None) -> AdapterManifest:
    """Let a version be pruned again. Raises UnknownModel."""
    found = door.store.unpin(AdapterRef(caller.tenant, name, version)) if _named(name) else None
    return await _known(door, found, name, version)


async def _known(
    door: Door,
    found: Awaitable[AdapterManifest | None] | None,
    name: str,
    version: int | None,
) -> AdapterManifest:
    manifest = None if found is None else await found
    if manifest is None:
        raise await door.unknown(_shown(name, version))
    return manifest


def _named(name: str) -> bool:
    return ADAPTER_NAME.fullmatch(name) is not None


def _shown(name: str, version: int | None) -> str:
    return name if version is None else f"{name}@{version}"
