"""Counts which adapters requests ask for here, and tells the others now and then."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from adapter_cache.usage import AdapterUsage
from contracts.adapters import AdapterKey, AdapterRef
from replicas.background import Background
from replicas.companion import Companion

_TIMEOUT_S = 5.0


class UsageReporter(Companion):
    """Adds to `usage` every `every_s`, and at the end.

    At most `max_names` adapters are counted between two reports; others of that time are left
    out. Counts that could not be reported wait for the next report.
    """

    def __init__(
        self,
        usage: AdapterUsage,
        *,
        every_s: float,
        max_names: int = 10_000,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._usage = usage
        self._every_s = every_s
        self._max_names = max_names
        self._sleep = sleep
        self._counts: Counter[AdapterRef] = Counter()
        self._work = Background("reporting the use of adapters")

    async def start(self) -> None:
        self._work.spawn(self._run)

    def began(self, key: AdapterKey) -> None:
        self._add(AdapterRef(key.tenant, key.name), 1)

    async def stop(self) -> None:
        await self._work.stop()
        await self._work.attempt(self._report)

    def __repr__(self) -> str:
        return f"<UsageReporter {len(self._counts)} adapters since the last report>"

    async def _run(self) -> None:
        while True:
            await self._sleep(self._every_s)
            await self._work.attempt(self._report)

    async def _report(self) -> None:
        if not self._counts:
            return
        counts, self._counts = self._counts, Counter()
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await self._usage.add(counts)
        except BaseException:
            for ref, count in counts.items():
                self._add(ref, count)
            raise

    def _add(self, ref: AdapterRef, count: int) -> None:
        if ref in self._counts or len(self._counts) < self._max_names:
            self._counts[ref] += count
