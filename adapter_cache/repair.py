"""Brings the registry's record of names in line with the object store."""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from adapter_cache.fsspec_objects import FsspecObjects, NameFiles
from adapter_cache.parallel import for_each
from adapter_cache.registry import Registry
from adapter_cache.version_entry import (
    VersionEntry,
    last_tombstone,
    live_shares,
    live_versions,
)
from adapter_cache.version_log import end_dead
from contracts.adapters import AdapterManifest, TenantId
from contracts.errors import AdapterCorrupt

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Repair:
    """What to tell the registry. `advance` is highest first, so that the current one comes first;
    `remove_up_to` 0 removes nothing.
    """

    advance: tuple[AdapterManifest, ...] = ()
    remove_up_to: int = 0
    forget: frozenset[int] = frozenset()
    pin: frozenset[int] = frozenset()
    unpin: frozenset[int] = frozenset()
    share: frozenset[tuple[int, TenantId]] = frozenset()
    unshare: frozenset[TenantId] = frozenset()


@dataclass(frozen=True, slots=True)
class Mended:
    """A name and its repair: the entries that can be read, how many cannot, what was done."""

    files: NameFiles
    entries: tuple[VersionEntry, ...]
    num_damaged: int
    repair: Repair


def plan_repair(
    files: NameFiles,
    entries: Iterable[VersionEntry],
    known: Iterable[AdapterManifest],
    pinned: Collection[int],
    shared: Mapping[TenantId, int],
    *,
    before_s: float,
) -> Repair:
    """Compare what is stored with what the registry knows. Pure.

    Entries as new as `before_s` (Unix time) are left to their publisher, who may be at work.
    Versions above the highest of `files` are left too: they are newer than the listing.
    """
    entries = list(entries)
    ended = last_tombstone(entries)
    live = {manifest.key.version: manifest for manifest in live_versions(entries)}
    recorded = {manifest.key.version: manifest for manifest in known}
    missing = [
        live[number]
        for number in sorted(live, reverse=True)
        if recorded.get(number) != live[number] and files.entries[number] < before_s
    ]
    highest = max(files.entries, default=0)
    shares = live_shares(files.shares, ended)
    return Repair(
        advance=tuple(missing),
        remove_up_to=ended if any(number <= ended for number in recorded) else 0,
        forget=frozenset(
            number for number in recorded if ended < number < highest and number not in live
        )
        - frozenset(files.entries),
        pin=frozenset(files.pins & live.keys()) - frozenset(pinned),
        unpin=frozenset(number for number in pinned if number <= highest) - files.pins,
        share=frozenset(
            (version, reader)
            for reader, version in shares.items()
            if live and shared.get(reader) != version
        ),
        unshare=frozenset(
            reader
            for reader, version in shared.items()
            if reader not in shares and version <= highest
        ),
    )


async def mend_part(
    objects: FsspecObjects,
    registry: Registry,
    part: str,
    visit: Callable[[Mended], Awaitable[None]],
    *,
    before_s: float,
    max_parallel: int,
    dry_run: bool = False,
) -> None:
    """Repair every name of one part of the object store and hand each to `visit`.

    May run beside publishes and deletes, and again at any time. Raises StoreUnavailable.
    """
    highest: dict[tuple[TenantId, str], int] = {}

    async def mend(files: NameFiles) -> None:
        mended = await _mend(objects, registry, files, before_s, dry_run)
        if mended.repair.advance and not dry_run:
            highest[files.tenant, files.name] = max(mended.files.entries)
        await visit(mended)

    async def end_late(files: NameFiles) -> None:
        if above := highest.get((files.tenant, files.name)):
            await end_dead(registry, objects, files, above=above)

    await for_each(await objects.names_in(part), mend, limit=max_parallel)
    if highest:
        # A name may have been deleted just before a version of it was recorded here.
        await for_each(await objects.names_in(part), end_late, limit=max_parallel)


async def _mend(
    objects: FsspecObjects, registry: Registry, files: NameFiles, before_s: float, dry_run: bool
) -> Mended:
    mended = await _look(objects, registry, files, before_s)
    if mended.repair.forget or mended.repair.unpin or mended.repair.unshare:
        # The listing may be older than what the registry said: only a newer one can tell.
        files = await objects.name_files(files.tenant, files.name)
        mended = await _look(objects, registry, files, before_s)
    if not dry_run:
        await _apply(registry, mended)
    return mended


async def _look(
    objects: FsspecObjects, registry: Registry, files: NameFiles, before_s: float
) -> Mended:
    try:
        known = await registry.versions(files.tenant, files.name)
    except AdapterCorrupt as error:
        _log.warning("%s: it is written again", error)
        known = []
    pinned = await registry.pins(files.tenant, files.name)
    shared = await registry.shares(files.tenant, files.name)
    entries, num_damaged = await _read(objects, files)
    repair = plan_repair(files, entries, known, pinned, shared, before_s=before_s)
    return Mended(files, tuple(entries), num_damaged, repair)


async def _read(objects: FsspecObjects, files: NameFiles) -> tuple[list[VersionEntry], int]:
    """The entries that can be read, and the number of those that cannot."""
    found, num_damaged = [], 0
    for number in sorted(files.entries):
        try:
            entry = await objects.read_entry(files.tenant, files.name, number)
        except AdapterCorrupt as error:
            _log.warning("%s", error)
            num_damaged += 1
        else:
            found += [entry] if entry else []
    return found, num_damaged


async def _apply(registry: Registry, mended: Mended) -> None:
    tenant, name, repair = mended.files.tenant, mended.files.name, mended.repair
    if repair.remove_up_to:
        await registry.remove(tenant, name, repair.remove_up_to)
    for manifest in repair.advance:
        await registry.advance(manifest)
    if repair.forget:
        await registry.forget(tenant, name, repair.forget)
    for number in sorted(repair.pin):
        await registry.pin(tenant, name, number)
    for number in sorted(repair.unpin):
        await registry.unpin(tenant, name, number)
    for version, reader in sorted(repair.share):
        await registry.share(tenant, name, reader, version)
    for reader in sorted(repair.unshare):
        await registry.unshare(tenant, name, reader)
