"""Garbage collection of the object store: what broken publishes and deletes left behind.

First every name is visited (mark), then every blob (sweep).

A name: versions that retention or a delete should have removed are removed, and a live entry that
the registry does not know is recorded there. Such an entry is a publish that broke off, or one that
the registry has lost, and nothing can tell which. So it is finished, never dropped, and collecting
beside an emptied registry does no harm.

A blob goes when no entry names it and it was last put more than the grace period before the
collection began. That is safe while publishes run, because each puts its blob, even one that is
there, before it creates the entry: an entry that the mark came too early to see belongs to a blob
that is younger than a publish takes, so younger than the grace period. A blob's age is read again
right before it is deleted. For a put that falls into the moment between these two the publisher
looks, once its entry is there, whether the blob is, and puts it again. The grace period has to
exceed the longest publish plus what the clocks of this machine and of the store differ.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from adapter_cache.fsspec_objects import FsspecObjects, NameFiles, StoredBlob
from adapter_cache.history import outdated
from adapter_cache.parallel import for_each
from adapter_cache.registry import Registry
from adapter_cache.repair import Mended, mend_part
from adapter_cache.version_entry import VersionEntry, last_tombstone, live_versions
from contracts.adapters import TenantId


@dataclass(slots=True)
class CollectReport:
    """Names seen; entries recorded in the registry, removed, and unreadable; blobs seen, and of
    these removed, with their bytes; temporary files removed.

    While `num_damaged` is not 0 no blob is removed: a damaged entry may name any of them.
    """

    num_names: int = 0
    num_recorded: int = 0
    num_removed_entries: int = 0
    num_damaged: int = 0
    num_blobs: int = 0
    num_removed_blobs: int = 0
    removed_bytes: int = 0
    num_removed_leftovers: int = 0


@dataclass(frozen=True, slots=True)
class NamePlan:
    """What to do about one name: entries to remove (with their pins), shares to remove that a
    delete ended, digests to keep.
    """

    remove: frozenset[int]
    forget: frozenset[int]
    keep: frozenset[str]
    unshare: frozenset[tuple[int, TenantId]] = frozenset()


@dataclass(frozen=True, slots=True)
class Rules:
    """How to collect. What is as new as `before_s` (Unix time) is left to its publisher."""

    keep_versions: int
    before_s: float
    max_parallel: int
    dry_run: bool


def plan_name(
    files: NameFiles, entries: Iterable[VersionEntry], *, keep_versions: int, before_s: float
) -> NamePlan:
    """Decide about one name. Pure; `before_s` (Unix time) is when the grace period began.

    Digests of versions that are removed now are kept until the next collection: requests that
    have resolved them may be under way.
    """
    entries = list(entries)
    ended = last_tombstone(entries)
    old = {number for number, written_s in files.entries.items() if written_s < before_s}
    dead = {number for number in files.entries if number < ended} if ended in old else set()
    pruned = set(outdated(files.entries, files.pins, keep_versions)) & old
    pins_of_nothing = {number for number in files.pins if number not in files.entries}
    return NamePlan(
        remove=frozenset(dead | pruned | pins_of_nothing),
        forget=frozenset(pruned),
        keep=frozenset(manifest.key.digest for manifest in live_versions(entries)),
        unshare=frozenset(share for share in files.shares if share[0] < ended and ended in old),
    )


def is_garbage(blob: StoredBlob, kept: set[bytes], *, before_s: float) -> bool:
    """Decide about one blob. Pure."""
    return blob.modified_at_s < before_s and bytes.fromhex(blob.digest) not in kept


async def collect(
    objects: FsspecObjects,
    registry: Registry,
    *,
    keep_versions: int,
    grace_s: float,
    now_s: float,
    progress: Callable[[CollectReport], None] = lambda _: None,
    max_parallel: int = 16,
    dry_run: bool = False,
) -> CollectReport:
    """Collect once; `now_s` is Unix time. With `dry_run` only count what would be done.

    May break off and start again at any point. Raises StoreUnavailable.
    """
    rules = Rules(keep_versions, now_s - grace_s, max_parallel, dry_run)
    run = _Collection(objects, registry, rules)
    for part in await objects.parts():
        await run.visit_names(part)
        progress(run.report)
    if not run.report.num_damaged:
        await for_each(objects.blobs(), run.visit_blob, limit=max_parallel)
        progress(run.report)
    await run.remove_leftovers()
    progress(run.report)
    return run.report


class _Collection:
    """One run: what it has found so far, and what it does about it."""

    def __init__(self, objects: FsspecObjects, registry: Registry, rules: Rules) -> None:
        self._objects = objects
        self._registry = registry
        self._rules = rules
        self._kept: set[bytes] = set()
        self.report = CollectReport()

    async def visit_names(self, part: str) -> None:
        rules = self._rules
        await mend_part(
            self._objects,
            self._registry,
            part,
            self._visit_name,
            before_s=rules.before_s,
            max_parallel=rules.max_parallel,
            dry_run=rules.dry_run,
        )

    async def visit_blob(self, blob: StoredBlob) -> None:
        self.report.num_blobs += 1
        if not is_garbage(blob, self._kept, before_s=self._rules.before_s):
            return
        if not self._rules.dry_run:
            modified_at_s = await self._objects.blob_modified_at_s(blob.digest)
            if modified_at_s is None or modified_at_s >= self._rules.before_s:
                return
            await self._objects.delete_blob(blob.digest)
        self.report.num_removed_blobs += 1
        self.report.removed_bytes += blob.size_bytes

    async def remove_leftovers(self) -> None:
        for file in await self._objects.leftovers():
            if file.modified_at_s < self._rules.before_s:
                self.report.num_removed_leftovers += 1
                if not self._rules.dry_run:
                    await self._objects.remove_leftover(file)

    async def _visit_name(self, mended: Mended) -> None:
        files, rules = mended.files, self._rules
        plan = plan_name(
            files, mended.entries, keep_versions=rules.keep_versions, before_s=rules.before_s
        )
        self._kept.update(bytes.fromhex(digest) for digest in plan.keep)
        self.report.num_names += 1
        self.report.num_recorded += len(mended.repair.advance)
        self.report.num_damaged += mended.num_damaged
        self.report.num_removed_entries += len(plan.remove & files.entries.keys())
        if rules.dry_run or not (plan.remove or plan.unshare):
            return
        await self._objects.unshare(files.tenant, files.name, plan.unshare)
        # The registry first: it must not name what is gone.
        await self._registry.forget(files.tenant, files.name, plan.forget)
        await self._objects.remove_entries(files.tenant, files.name, plan.remove)
