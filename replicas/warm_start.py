"""Brings the adapters that will be asked of a new replica to its node before requests come."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from adapter_cache.fetcher import AdapterFetcher
from adapter_cache.remembering_registry import Resolver
from adapter_cache.usage import AdapterUsage
from contracts.adapters import AdapterKey
from replicas.background import Background
from replicas.companion import Companion

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """Which of some adapters are one replica's own, of so many replicas."""

    num_replicas: int
    of: Callable[[Sequence[AdapterKey]], Sequence[AdapterKey]]


class WarmStart(Companion):
    """Fetches the `limit` most used adapters of its `share`, all beside each other, for at most
    `timeout_s`.

    Of as many times `limit` as there will be replicas, `share` gives those that are this one's own.
    A replica that could warm nothing starts all the same. `note` hears of each adapter fetched.
    """

    def __init__(
        self,
        usage: AdapterUsage,
        registry: Resolver,
        fetcher: AdapterFetcher,
        *,
        limit: int,
        timeout_s: float,
        note: Callable[[AdapterKey], None],
        share: Share | None = None,
    ) -> None:
        self._share = share or Share(1, list)
        self._usage = usage
        self._registry = registry
        self._fetcher = fetcher
        self._limit = limit
        self._timeout_s = timeout_s
        self._note = note
        self._work = Background("warming an adapter")

    async def start(self) -> None:
        """Returns when the adapters are on the node, or time is up."""
        if self._limit > 0:
            await self._work.attempt(self._warm_within)

    async def _warm_within(self) -> None:
        async with asyncio.timeout(self._timeout_s):
            await self._warm()

    async def _warm(self) -> None:
        refs = await self._usage.most_used(self._limit * self._share.num_replicas)
        known = [key for key in await self._registry.resolve(refs) if key is not None]
        keys = list(self._share.of(known))[: self._limit]
        done = await asyncio.gather(*(self._work.attempt(self._fetch, key) for key in keys))
        _LOG.info("%d of %d adapters are warm", sum(done), len(keys))

    async def _fetch(self, key: AdapterKey) -> None:
        await self._fetcher.ensure(key)
        self._note(key)
