"""Work on the stores themselves, beside a running server or without one, for the command line."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from adapter_cache.collector import CollectReport, collect
from adapter_cache.config import CacheConfig
from adapter_cache.rebuild import RebuildReport
from adapter_cache.valkey_server import ValkeyServer
from app.registry_rebuild import rebuild_now
from app.stores import Stores, open_stores
from contracts.errors import AdapterCorrupt, NotReady

Report = TypeVar("Report", RebuildReport, CollectReport)
Listener = Callable[[Any], None]


def rebuild_registry(cache: CacheConfig, console: Console) -> None:
    """Fill the registry from the object store and say what came of it.

    Raises StoreUnavailable, NotReady, or AdapterCorrupt where entries cannot be read.
    """
    report = _run(cache, console, "rebuilding", rebuild_now)
    console.print(
        f"{report.num_names} adapters with {report.num_versions} versions, "
        f"{report.num_recorded} of these recorded anew; {report.num_deleted} deleted"
    )
    _require_readable(report.num_damaged)


def collect_garbage(cache: CacheConfig, console: Console, *, dry_run: bool) -> None:
    """Remove from the object store what no version refers to and say how much it was.

    Raises StoreUnavailable, NotReady, or AdapterCorrupt where entries cannot be read.
    """

    def work(stores: Stores, listen: Listener) -> Awaitable[CollectReport]:
        return collect(
            stores.objects,
            stores.registry,
            keep_versions=cache.keep_versions,
            grace_s=cache.orphan_grace_s,
            now_s=time.time(),
            progress=listen,
            dry_run=dry_run,
        )

    report = _run(cache, console, "looking for garbage", work)
    console.print(
        f"{'would remove' if dry_run else 'removed'} {report.num_removed_blobs} of "
        f"{report.num_blobs} blobs ({report.removed_bytes:,} bytes), "
        f"{report.num_removed_entries} versions and {report.num_removed_leftovers} temporary files "
        f"of {report.num_names} names; {report.num_recorded} versions recorded"
    )
    _require_readable(report.num_damaged)


def _run(
    cache: CacheConfig,
    console: Console,
    what: str,
    work: Callable[[Stores, Listener], Awaitable[Report]],
) -> Report:
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
    )
    with reachable(cache) as found, bar:
        return asyncio.run(_with_stores(found, bar, what, work))


async def _with_stores(
    cache: CacheConfig,
    bar: Progress,
    what: str,
    work: Callable[[Stores, Listener], Awaitable[Report]],
) -> Report:
    stores = open_stores(cache)
    try:
        task = bar.add_task(what, total=max(1, len(await stores.objects.parts())))
        return await work(stores, lambda report: bar.advance(task))
    finally:
        await stores.close()


@contextmanager
def reachable(cache: CacheConfig) -> Iterator[CacheConfig]:
    """With a `redis_url`, if need be that of the embedded server that `flora serve` has started,
    or of one that runs meanwhile.
    """
    url = cache.redis_url or ValkeyServer.running_url(cache.valkey_dir)
    if url:
        yield replace(cache, redis_url=url)
        return
    try:
        valkey = ValkeyServer.start(
            cache.valkey_dir, cache.valkey_port, max_bytes=cache.valkey_max_bytes
        )
    except NotReady as error:
        raise NotReady(f"{error}; for a running one set cache.redis_url") from error
    with valkey:
        yield replace(cache, redis_url=valkey.url)


def _require_readable(num_damaged: int) -> None:
    if num_damaged:
        raise AdapterCorrupt(f"{num_damaged} entries cannot be read; the log names them")
