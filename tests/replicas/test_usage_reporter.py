import asyncio
from collections.abc import Mapping

from adapter_cache.usage import MemoryUsage
from contracts.adapters import DEFAULT_TENANT, AdapterRef
from contracts.errors import StoreUnavailable
from replicas.usage_reporter import UsageReporter
from tests.replicas.engines import turns
from tests.replicas.keys import key_of


class CountingUsage(MemoryUsage):
    """Counts its calls; fails when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.num_reports = 0
        self.failure: Exception | None = None

    async def add(self, counts: Mapping[AdapterRef, int]) -> None:
        self.num_reports += 1
        if self.failure is not None:
            raise self.failure
        await super().add(counts)

    def count(self, name: str) -> int:
        return self._counts[AdapterRef(DEFAULT_TENANT, name)]


class Ticks:
    """A sleep that ends when the test says so."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self._next: asyncio.Queue[None] = asyncio.Queue()

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self._next.get()

    async def tick(self) -> None:
        self._next.put_nowait(None)
        await turns()


async def test_counts_are_reported_now_and_then_and_at_the_end() -> None:
    usage, ticks = CountingUsage(), Ticks()
    reporter = UsageReporter(usage, every_s=7, sleep=ticks)
    await reporter.start()
    for version in (1, 2, 2):
        reporter.began(key_of("a", version))
    await ticks.tick()
    assert (usage.count("a"), usage.num_reports) == (3, 1)
    await ticks.tick()
    assert usage.num_reports == 1
    reporter.began(key_of("b"))
    reporter.ended(key_of("b"))
    await reporter.stop()
    assert (usage.count("a"), usage.count("b")) == (3, 1)
    assert ticks.slept == [7, 7, 7]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_what_could_not_be_reported_waits() -> None:
    usage, ticks = CountingUsage(), Ticks()
    reporter = UsageReporter(usage, every_s=7, sleep=ticks)
    await reporter.start()
    for failure in (StoreUnavailable("down"), RuntimeError("a bug")):
        usage.failure = failure
        reporter.began(key_of("a"))
        await ticks.tick()
    usage.failure = None
    assert usage.count("a") == 0
    await ticks.tick()
    assert usage.count("a") == 2
    await reporter.stop()


async def test_it_stops_although_the_report_fails() -> None:
    usage = CountingUsage()
    usage.failure = StoreUnavailable("down")
    reporter = UsageReporter(usage, every_s=7)
    await reporter.start()
    reporter.began(key_of("a"))
    await reporter.stop()
    assert usage.num_reports == 1
    assert "1 adapters" in repr(reporter)


async def test_only_so_many_adapters_are_counted() -> None:
    usage = CountingUsage()
    reporter = UsageReporter(usage, every_s=7, max_names=2)
    for name in ("a", "b", "c", "a"):
        reporter.began(key_of(name))
    await reporter.stop()
    assert [usage.count(name) for name in "abc"] == [2, 1, 0]
