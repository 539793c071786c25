"""A process that publishes and is killed at the n-th thing it does; see test_durable_crash."""

import asyncio
import os
import signal
import sys
from typing import Any

from adapter_cache.changes import MemoryFeed
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_registry import RedisRegistry
from tests.adapter_cache.adapters import make_blob, publish
from tests.adapter_cache.steps import Act, watched

KEEP_VERSIONS = 2


class Countdown:
    """Kills this process at step `die_at`; 0 kills nobody. `seen` are the steps so far."""

    def __init__(self, die_at: int = 0) -> None:
        self.die_at = die_at
        self.seen: list[str] = []

    def step(self, what: str) -> None:
        self.seen.append(what)
        if len(self.seen) == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    async def act(self, what: str) -> None:
        self.step(what)

    def watch_disk(self) -> None:
        """Count the moments when bytes lie in a file that has no name yet, or just got one."""
        flush = os.fsync

        def fsync(fd: Any) -> None:
            self.step("fsync")
            flush(fd)

        os.fsync = fsync


def make_store(
    clients: RedisClients, prefix: str, objects: FsspecObjects, act: Act | None = None
) -> DurableAdapterStore:
    registry, hot, feed = RedisRegistry(clients, prefix), RedisBlobs(clients, prefix), MemoryFeed()
    if act is not None:
        registry, hot, feed = watched(registry, act), watched(hot, act), watched(feed, act)
        objects = watched(objects, act)
    return DurableAdapterStore(registry, hot, objects, feed, keep_versions=KEEP_VERSIONS)


async def publish_third(url: str, prefix: str, folder: str, countdown: Countdown) -> None:
    clients, objects = RedisClients.connect(url), FsspecObjects(f"file://{folder}")
    await publish(make_store(clients, prefix, objects, countdown.act), "ada", make_blob(3))
    await objects.close()
    await clients.close()


def main(url: str, prefix: str, folder: str, die_at: str) -> None:
    countdown = Countdown(int(die_at))
    countdown.watch_disk()
    asyncio.run(publish_third(url, prefix, folder, countdown))
    print("\n".join(countdown.seen))


if __name__ == "__main__":
    main(*sys.argv[1:])
