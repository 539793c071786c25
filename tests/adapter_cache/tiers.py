"""A tier that misses, fails, stalls or holds wrong bytes as a test says, and a clock that skips."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from adapter_cache.blobs import MemoryBlobs
from adapter_cache.cache_metrics import CacheMetrics
from contracts.adapters import Digest
from contracts.errors import StoreUnavailable
from tests.adapter_cache.adapters import digest_of

Mood = Literal["up", "down", "stalled"]


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock `skip` moves on, so that timeouts come due without waiting."""

    skipped_s = 0.0

    def time(self) -> float:
        return super().time() + self.skipped_s


def skip(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    if isinstance(loop, SkippingLoop):
        loop.skipped_s += seconds


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class FakeTier(MemoryBlobs):
    """Counts what it is asked for. A failure takes `fails_after_s` on a skipping loop."""

    def __init__(self, name: str, blobs: Iterable[bytes] = ()) -> None:
        super().__init__(name)
        self.blobs = {digest_of(blob): blob for blob in blobs}
        self.mood: Mood = "up"
        self.fails_after_s = 0.0
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = asyncio.Semaphore(0)
        self.asked: list[Digest] = []
        self.given: list[Digest] = []
        self.num_now = 0
        self.max_now = 0

    async def get(self, digest: Digest) -> bytes | None:
        self.asked.append(digest)
        self.num_now += 1
        self.max_now = max(self.max_now, self.num_now)
        self.started.release()
        try:
            await self._behave()
        finally:
            self.num_now -= 1
        return await super().get(digest)

    async def put(self, digest: Digest, blob: bytes) -> None:
        self.given.append(digest)
        await self._behave()
        await super().put(digest, blob)

    async def until_asked(self, num_times: int = 1) -> None:
        for _ in range(num_times):
            await self.started.acquire()

    async def _behave(self) -> None:
        await self.gate.wait()
        if self.mood == "up":
            return
        skip(self.fails_after_s)
        if self.mood == "stalled":
            await asyncio.Event().wait()
        raise StoreUnavailable(f"{self.name} cannot be reached")


async def others_done() -> None:
    """Return when nothing but the caller runs."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


def count(metrics: CacheMetrics, name: str, tier: str = "", result: str = "") -> float:
    """The value of one metric now."""
    labels = {"tier": tier, "result": result}
    value = metrics.registry.get_sample_value(name, {k: v for k, v in labels.items() if v})
    assert value is not None, name
    return value


def files_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if not path.name.startswith(".")}
