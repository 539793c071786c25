"""Telling replicas which adapters are about to be used, ahead of the requests. Never waits."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol

from contracts.adapters import AdapterKey, Digest

_LOG = logging.getLogger(__name__)


class Announcer(Protocol):
    """The one method of the dispatcher that a prefetch calls."""

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        """Have every replica fetch these."""
        ...


class RecentDigests:
    """Which digests were used within `quiet_s`, the `max_digests` latest of them. Pure."""

    def __init__(self, max_digests: int, quiet_s: float) -> None:
        self._max_digests = max_digests
        self._quiet_s = quiet_s
        self._used_at_s: OrderedDict[Digest, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._used_at_s)

    def take_new(self, keys: Iterable[AdapterKey], now_s: float) -> tuple[AdapterKey, ...]:
        """Those of `keys` that were not used lately, each digest once; all count as used now."""
        new: list[AdapterKey] = []
        for key in keys:
            if key.is_base:
                continue
            used_at_s = self._used_at_s.pop(key.digest, None)
            if used_at_s is None or now_s - used_at_s > self._quiet_s:
                new.append(key)
            self._used_at_s[key.digest] = now_s
        while len(self._used_at_s) > self._max_digests:
            self._used_at_s.popitem(last=False)
        return tuple(new)


class Prefetcher:
    """Fire and forget, at most `max_calls` calls at a time: what is more is left out.

    A prefetch can only make a request quicker, so nothing of it may delay or fail one.
    """

    def __init__(
        self,
        dispatcher: Announcer,
        *,
        max_calls: int = 16,
        max_digests: int = 8192,
        quiet_s: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dispatcher = dispatcher
        self._max_calls = max_calls
        self._recent = RecentDigests(max_digests, quiet_s)
        self._clock = clock
        self._calls: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"Prefetcher(calls={len(self._calls)}, recent={len(self._recent)})"

    def hint(self, keys: Iterable[AdapterKey]) -> None:
        """Requests for `keys` are on their way: announce those that were not used lately."""
        new = self._recent.take_new(keys, self._clock())
        if new:
            self.tell(new)

    def tell(self, keys: tuple[AdapterKey, ...]) -> bool:
        """Announce `keys`; False where too many calls are under way, and nothing was done."""
        if len(self._calls) >= self._max_calls:
            return False
        call = asyncio.get_running_loop().create_task(self._call(keys))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return True

    async def aclose(self) -> None:
        """Cancel what is under way."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _call(self, keys: tuple[AdapterKey, ...]) -> None:
        try:
            await self._dispatcher.prefetch(keys)
        except Exception as error:
            _LOG.warning("could not announce a prefetch: %s", error)
