"""Names keep their last known version while the registry does not answer. Holds no bytes."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapter_cache.registry_guard import AlwaysWhole, Guard
from contracts.adapters import AdapterKey, AdapterRef
from contracts.errors import NotReady, StoreUnavailable

_LOG = logging.getLogger(__name__)

Resolved = Sequence[AdapterKey | StoreUnavailable | None]
"""Keys in the order of their refs; None: no such adapter, the error: nobody can say now."""


class Resolver(Protocol):
    """The one method of a registry that is needed here."""

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        """See Registry.resolve."""
        ...


@dataclass(frozen=True, slots=True)
class _Memory:
    key: AdapterKey
    asked_at_s: float


class RememberingRegistry:
    """Answers from `registry`, and while that fails from memory, for `max_age_s` a name.

    A fresh answer always wins, unless a version went backwards and `guard` says that the registry
    is being rebuilt: that counts as a failure. During an outage nobody waits for the registry but
    the one caller in `pause_s` who finds out whether it is back, and that one only if memory can't
    answer it. At most `max_names` names are remembered. `timeout_s` bounds each look-up.
    """

    def __init__(
        self,
        registry: Resolver,
        *,
        guard: Guard | None = None,
        max_age_s: float,
        timeout_s: float,
        max_names: int = 1 << 16,
        pause_s: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._guard = guard or AlwaysWhole()
        self._max_age_s = max_age_s
        self._timeout_s = timeout_s
        self._max_names = max_names
        self._pause_s = pause_s
        self._clock = clock
        self._memory: OrderedDict[AdapterRef, _Memory] = OrderedDict()
        self._outage = ""
        self._probe: asyncio.Task[Resolved] | None = None
        self._probe_at_s = 0.0
        self.num_stale_answers = 0

    async def resolve(self, refs: Sequence[AdapterRef]) -> Resolved:
        """The key of each ref in order, None where there is none, the error where nobody knows.

        Raises StoreUnavailable when that is so for all of them.
        """
        if not self._outage:
            return await self._ask(refs)
        if self._probe is None and self._clock() >= self._probe_at_s:
            self._probe = asyncio.create_task(self._ask(refs))
            self._probe.add_done_callback(self._probed)
            if any(self._recall(ref) is None for ref in refs):
                return await asyncio.shield(self._probe)
        return self._answer(refs)

    async def close(self) -> None:
        """End what runs in the background; the registry itself is its owner's to close."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)

    def __repr__(self) -> str:
        state = f"outage: {self._outage}" if self._outage else "in touch"
        return f"<RememberingRegistry {len(self._memory)} names, {state}>"

    async def _ask(self, refs: Sequence[AdapterRef]) -> Resolved:
        asked_at_s = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                keys = await self._registry.resolve(refs)
                if any(map(self._went_back, refs, keys)):
                    await self._guard.require_whole()
        except (StoreUnavailable, NotReady) as error:
            self._fail(error.message)
        except TimeoutError:
            self._fail("The adapter registry did not answer in time.")
        else:
            self._remember(refs, keys, asked_at_s)
            return keys
        return self._answer(refs)

    def _went_back(self, ref: AdapterRef, key: AdapterKey | None) -> bool:
        known = self._recall(ref)
        return known is not None and (key is None or key.version < known.version)

    def _fail(self, message: str) -> None:
        if not self._outage:
            _LOG.warning("names keep their last known versions: %s", message)
        self._outage = message
        self._probe_at_s = self._clock() + self._pause_s

    def _probed(self, probe: "asyncio.Task[Resolved]") -> None:
        self._probe = None
        # Looked at, so that asyncio does not report a failure that nobody waited for.
        if not probe.cancelled():
            probe.exception()

    def _remember(
        self, refs: Sequence[AdapterRef], keys: Sequence[AdapterKey | None], asked_at_s: float
    ) -> None:
        if self._outage:
            _LOG.info("the registry answers again")
            self._outage = ""
        for ref, key in zip(refs, keys, strict=True):
            known = self._memory.get(ref)
            # Two look-ups may overtake each other: the one that was asked later knows better.
            if known is not None and known.asked_at_s > asked_at_s:
                continue
            self._memory.pop(ref, None)
            if key is not None:
                self._memory[ref] = _Memory(key, asked_at_s)
        while len(self._memory) > self._max_names:
            self._memory.popitem(last=False)

    def _answer(self, refs: Sequence[AdapterRef]) -> Resolved:
        """From memory alone."""
        keys = [self._recall(ref) for ref in refs]
        num_known = sum(key is not None for key in keys)
        if refs and not num_known:
            raise StoreUnavailable(self._outage)
        self.num_stale_answers += num_known
        return [StoreUnavailable(self._outage) if key is None else key for key in keys]

    def _recall(self, ref: AdapterRef) -> AdapterKey | None:
        known = self._memory.get(ref)
        if known is None or self._clock() - known.asked_at_s >= self._max_age_s:
            return None
        return known.key
