"""Fills a registry from the object store: after Redis was lost, or to be sure."""

from collections.abc import Callable
from dataclasses import dataclass

from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.registry import Registry
from adapter_cache.repair import Mended, mend_part
from adapter_cache.version_entry import live_versions


@dataclass(slots=True)
class RebuildReport:
    """Names that exist, their versions, what of these was recorded anew, names found deleted,
    and entries that could not be read, which are logged.
    """

    num_names: int = 0
    num_versions: int = 0
    num_recorded: int = 0
    num_deleted: int = 0
    num_damaged: int = 0


async def rebuild(
    objects: FsspecObjects,
    registry: Registry,
    progress: Callable[[RebuildReport], None] = lambda _: None,
    *,
    max_parallel: int = 16,
) -> RebuildReport:
    """Record every live version and pin, and take away what the object store says is deleted.

    May run while others publish, delete or rebuild, and again after it broke off. `progress` hears
    the report so far after each part of the names. Raises StoreUnavailable.
    """
    report = RebuildReport()

    async def count(mended: Mended) -> None:
        num_live = len(live_versions(mended.entries))
        report.num_names += num_live > 0
        report.num_deleted += num_live == 0
        report.num_versions += num_live
        report.num_recorded += len(mended.repair.advance)
        report.num_damaged += mended.num_damaged

    for part in await objects.parts():
        await mend_part(
            objects, registry, part, count, before_s=float("inf"), max_parallel=max_parallel
        )
        progress(report)
    return report
