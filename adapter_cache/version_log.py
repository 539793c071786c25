"""Writes a name's history: the bytes, then an entry, then the registry's pointer.

Creating the entry is the one serialisation point, and what commits a version. Who creates number N
has seen that N-1 holds other bytes, so versions next to each other always differ, whoever raced.
All that follows the entry can be done again by anybody: the next publish of the same bytes, a
rebuild or the collector does what a publisher that died did not.
"""

import logging

from adapter_cache.blobs import BlobTier
from adapter_cache.changes import ChangeFeed
from adapter_cache.fsspec_objects import FsspecObjects, NameFiles
from adapter_cache.history import as_version, outdated
from adapter_cache.registry import Registry
from adapter_cache.version_entry import VersionEntry, entry_of
from contracts.adapters import (
    AdapterChange,
    AdapterKey,
    AdapterManifest,
    AdapterRef,
    Digest,
    TenantId,
)
from contracts.errors import AdapterCorrupt, StoreUnavailable

_log = logging.getLogger(__name__)

_MAX_TRIES = 1000
_NOTHING = VersionEntry(0, None)


class VersionLog:
    """Appends versions and tombstones, and tidies what they make obsolete.

    Every method may raise StoreUnavailable: before the entry nothing has changed, after it the
    version exists and only waits to be seen.
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
        self._feed = feed
        self._keep_versions = keep_versions

    async def append(self, draft: AdapterManifest, blob: bytes) -> AdapterManifest:
        """Make verified bytes the next version of `draft`'s name, unless they are current.

        The number in `draft` does not count.
        """
        tenant, name, digest = draft.key.tenant, draft.key.name, draft.key.digest
        # Asked first: a registry that is down ends the publish before anything is written.
        known = await self._known(tenant, name)
        newest = await self._newest(tenant, name)
        highest = max(newest.version, known.version if known else 0)
        if (current := newest.manifest) and newest.version == highest:
            if current.key.digest == digest:
                return await self._again(current, blob)
        elif newest is not _NOTHING:
            await self._end_shares(tenant, name, newest.version)
            await self._remove_below(tenant, name, newest.version)
        await self._keep_bytes(digest, blob)
        manifest = await self._claim(draft, highest + 1)
        await self._confirm_bytes(manifest.key.digest, blob)
        await self._show(manifest)
        return manifest

    async def end(self, tenant: TenantId, name: str) -> bool:
        """Write a tombstone above every version; False when there is nothing to end."""
        known = await self._known(tenant, name)
        newest = await self._newest(tenant, name)
        highest = max(newest.version, known.version if known else 0)
        if highest == 0:
            return False
        if newest.manifest is None and newest.version == highest:
            # Nothing, or a delete that broke off: finish it.
            number, was_there = highest, known is not None
        else:
            number, was_there = await self._claim_tombstone(tenant, name, highest + 1), True
        gone = await self._registry.remove(tenant, name, number)
        await self._remove_below(tenant, name, number)
        if was_there:
            await self._announce(tenant, name, known.digest if known else Digest(""))
        return was_there or bool(gone)

    async def _known(self, tenant: TenantId, name: str) -> AdapterKey | None:
        try:
            [known] = await self._registry.resolve([AdapterRef(tenant, name)])
        except AdapterCorrupt as error:
            # Recording the next version puts it right.
            _log.warning("%s", error)
            return None
        return known

    async def _newest(self, tenant: TenantId, name: str) -> VersionEntry:
        """The highest entry; version 0 when there is none. A damaged one counts as a tombstone."""
        for _ in range(_MAX_TRIES):
            numbers = (await self._objects.name_files(tenant, name)).entries
            if not numbers:
                return _NOTHING
            try:
                entry = await self._objects.read_entry(tenant, name, max(numbers))
            except AdapterCorrupt as error:
                _log.warning("%s", error)
                return VersionEntry(max(numbers), None)
            # Gone since it was listed: then there is a higher one.
            if entry is not None:
                return entry
        raise _too_busy(name)

    async def _again(self, current: AdapterManifest, blob: bytes) -> AdapterManifest:
        """Publish what is current already: only make good what may be missing of it."""
        await self._confirm_bytes(current.key.digest, blob)
        before = await self._registry.advance(current)
        if before != current.key:
            await self._announce_version(before, current.key)
        return current

    async def _keep_bytes(self, digest: Digest, blob: bytes) -> None:
        """To the object store, and as a favour to readers to the hot tier."""
        await self._objects.put_blob(digest, blob)
        try:
            await self._hot.put(digest, blob)
        except StoreUnavailable as error:
            _log.warning("published bytes are not in the hot tier: %s", error)

    async def _claim(self, draft: AdapterManifest, first: int) -> AdapterManifest:
        """Create the entry under the first free number, or join a twin that just did."""
        tenant, name = draft.key.tenant, draft.key.name
        for number in range(first, first + _MAX_TRIES):
            manifest = as_version(draft, number, draft.created_at_s)
            if await self._objects.create_entry(tenant, name, entry_of(manifest)):
                return manifest
            taken = await self._objects.read_entry(tenant, name, number)
            if taken and taken.manifest and taken.manifest.key.digest == draft.key.digest:
                return taken.manifest
        raise _too_busy(name)

    async def _claim_tombstone(self, tenant: TenantId, name: str, first: int) -> int:
        for number in range(first, first + _MAX_TRIES):
            if await self._objects.create_entry(tenant, name, VersionEntry(number, None)):
                return number
        raise _too_busy(name)

    async def _confirm_bytes(self, digest: Digest, blob: bytes) -> None:
        """The entry protects the bytes from the collector from now on: see that they are there."""
        if not await self._objects.has_blob(digest):
            await self._objects.put_blob(digest, blob)

    async def _show(self, manifest: AdapterManifest) -> None:
        """Let requests see the version. Once they do, what is left may fail."""
        before = await self._registry.advance(manifest)
        try:
            await self._settle(manifest.key)
        except (StoreUnavailable, AdapterCorrupt) as error:
            _log.warning("old versions of adapter %r were not tidied: %s", manifest.key.name, error)
        if before is None or before.version < manifest.key.version:
            await self._announce_version(before, manifest.key)

    async def _settle(self, key: AdapterKey) -> None:
        """Take back what a delete or others' publishes meanwhile made obsolete, and prune."""
        files = await self._objects.name_files(key.tenant, key.name)
        if await end_dead(self._registry, self._objects, files, above=key.version):
            return
        obsolete = set(outdated(files.entries, files.pins, self._keep_versions))
        if key.version not in files.entries:
            obsolete.add(key.version)
        if obsolete:
            # The registry first: it must not name what is gone.
            await self._registry.forget(key.tenant, key.name, obsolete)
            await self._objects.remove_entries(key.tenant, key.name, obsolete)

    async def _remove_below(self, tenant: TenantId, name: str, number: int) -> None:
        """Remove what tombstone `number` ended. Left behind, it would do no harm."""
        try:
            files = await self._objects.name_files(tenant, name)
            dead = [version for version in {*files.entries, *files.pins} if version < number]
            await self._objects.remove_entries(tenant, name, dead)
            ended = [share for share in files.shares if share[0] < number]
            await self._objects.unshare(tenant, name, ended)
        except StoreUnavailable as error:
            _log.warning("entries of deleted adapter %r were not removed: %s", name, error)

    async def _end_shares(self, tenant: TenantId, name: str, number: int) -> None:
        """A delete that broke off has ended these: none may hold for what comes next."""
        for reader, version in (await self._registry.shares(tenant, name)).items():
            if version < number:
                await self._registry.unshare(tenant, name, reader)

    async def _announce_version(self, before: AdapterKey | None, now: AdapterKey) -> None:
        old = before.digest if before else Digest("")
        await self._feed.announce(AdapterChange(now.tenant, now.name, old, now))

    async def _announce(self, tenant: TenantId, name: str, old: Digest) -> None:
        """The end of a name, unless it has been published again meanwhile."""
        if await self._known(tenant, name) is None:
            await self._feed.announce(AdapterChange(tenant, name, old, None))


async def end_dead(
    registry: Registry, objects: FsspecObjects, files: NameFiles, *, above: int
) -> bool:
    """Whether a tombstone stands above version `above`, which the registry was told of too late.

    Then the registry is told of the tombstone. Call it after every `Registry.advance`, with a
    listing made after that: the registry itself does not remember what was deleted.
    """
    for number in sorted((each for each in files.entries if each > above), reverse=True):
        entry = await objects.read_entry(files.tenant, files.name, number)
        if entry is not None and entry.manifest is None:
            await registry.remove(files.tenant, files.name, number)
            return True
    return False


def _too_busy(name: str) -> StoreUnavailable:
    return StoreUnavailable(f"too many others are publishing adapter {name!r}")
