"""Where keys are kept, the quick look-up that every request makes, and the fake of the store."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from adapter_cache.registry_guard import AlwaysWhole, Guard
from app.api_key import ApiKey, parse_key_text
from contracts.access import Caller
from contracts.errors import AdapterCorrupt, NotReady, Overloaded, ServiceError, StoreUnavailable

_LOG = logging.getLogger(__name__)
_CANNOT_SAY = "Keys cannot be checked now."


class KeyStore(Protocol):
    """Records of keys by id. Every method may raise StoreUnavailable."""

    async def get(self, key_id: str) -> ApiKey | None:
        """The newest generation of a key, or None. Raises AdapterCorrupt for a damaged record."""
        ...

    async def put(self, key: ApiKey) -> bool:
        """Keep this generation of a key; False, and nothing changed, where a newer one is kept.

        A key that is marked as revoked stays so, whatever is put.
        """
        ...

    async def revoke(self, key_id: str) -> None:
        """Mark a key as revoked, for good."""
        ...


class MemoryKeys:
    """KeyStore in one process, for tests; obeys its contract."""

    def __init__(self) -> None:
        self._keys: dict[str, ApiKey] = {}
        self._revoked: set[str] = set()

    async def get(self, key_id: str) -> ApiKey | None:
        key = self._keys.get(key_id)
        return key and replace(key, is_revoked=key_id in self._revoked)

    async def put(self, key: ApiKey) -> bool:
        known = self._keys.get(key.key_id)
        if known is not None and known.generation > key.generation:
            return False
        self._keys[key.key_id] = key
        return True

    async def revoke(self, key_id: str) -> None:
        self._revoked.add(key_id)

    def wipe(self) -> None:
        """Lose everything, as an emptied server does."""
        self._keys.clear()
        self._revoked.clear()


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store said of one key, and when (by the cache's clock)."""

    key: ApiKey | None
    asked_at_s: float


class _Recent:
    """The last `max_size` answers, least lately used first out."""

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def get(self, key_id: str) -> _Known | None:
        if (known := self._known.get(key_id)) is not None:
            self._known.move_to_end(key_id)
        return known

    def set(self, key_id: str, known: _Known) -> None:
        self._known[key_id] = known
        self._known.move_to_end(key_id)
        if len(self._known) > self._max_size:
            self._known.popitem(last=False)

    def drop(self, key_id: str) -> None:
        self._known.pop(key_id, None)

    def __len__(self) -> int:
        return len(self._known)


class CachedKeyring:
    """Keyring over `store`, asked about one key at most every `ttl_s` seconds.

    What is revoked stops to open within `ttl_s`. While the store does not answer, a key that it
    knew at most `stale_max_s` ago goes on, and one caller in `pause_s` finds out whether it is
    back. A key is called unknown only while `guard` says that nothing is missing from the store.
    Known and unknown keys are remembered apart, so that guesses push no real key out; and keys that
    are not known are looked up `max_parallel_strangers` at a time, so that guesses leave the
    store's connections to others.

    `clock` counts seconds for the cache, `unix_clock` gives the time that expiry is told in.
    """

    def __init__(
        self,
        store: KeyStore,
        *,
        ttl_s: float,
        stale_max_s: float,
        guard: Guard | None = None,
        timeout_s: float = 2.0,
        pause_s: float = 0.5,
        max_keys: int = 1 << 16,
        max_unknown: int = 1 << 12,
        max_parallel_strangers: int = 8,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._ttl_s = ttl_s
        self._stale_max_s = stale_max_s
        self._guard = guard or AlwaysWhole()
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._clock = clock
        self._unix_clock = unix_clock
        self._known = _Recent(max_keys)
        self._unknown = _Recent(max_unknown)
        self._strangers = asyncio.Semaphore(max_parallel_strangers)
        self._asking: dict[str, asyncio.Task[ApiKey | None]] = {}
        self._outage = ""
        self._ask_again_at_s = 0.0

    async def find(self, secret: str) -> Caller | None:
        """See app.auth.Keyring."""
        parsed = parse_key_text(secret)
        if parsed is None:
            return None
        key = await self._get(parsed[0])
        if key is None or not key.is_opened_by(parsed[1], self._unix_clock()):
            return None
        return key.caller()

    async def close(self) -> None:
        """End what runs in the background; the store is its owner's to close."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def __repr__(self) -> str:
        state = f"outage: {self._outage}" if self._outage else "in touch"
        return f"<CachedKeyring {len(self._known)} keys, {state}>"

    async def _get(self, key_id: str) -> ApiKey | None:
        known = self._known.get(key_id) or self._unknown.get(key_id)
        if known is not None and self._clock() - known.asked_at_s < self._ttl_s:
            return known.key
        if self._outage and (self._asking or self._clock() < self._ask_again_at_s):
            return self._recall(key_id)
        task = self._asking.get(key_id) or self._start(key_id)
        if self._outage and self._can_recall(key_id):
            # Nobody waits for a store that was away a moment ago, if memory can answer.
            return self._recall(key_id)
        return await asyncio.shield(task)

    def _start(self, key_id: str) -> "asyncio.Task[ApiKey | None]":
        """One look-up a key at a time; callers that give up do not end it for others."""
        task = asyncio.create_task(self._ask(key_id))
        self._asking[key_id] = task
        task.add_done_callback(lambda done: self._asked(key_id, done))
        return task

    def _asked(self, key_id: str, task: "asyncio.Task[ApiKey | None]") -> None:
        del self._asking[key_id]
        if not task.cancelled():
            # Looked at, so that asyncio does not report a failure that nobody waited for.
            task.exception()

    async def _ask(self, key_id: str) -> ApiKey | None:
        if self._known.get(key_id) is not None:
            return await self._look_up(key_id)
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._strangers.acquire()
        except TimeoutError:
            raise Overloaded("Too many keys are seen for the first time.") from None
        try:
            return await self._look_up(key_id)
        finally:
            self._strangers.release()

    async def _look_up(self, key_id: str) -> ApiKey | None:
        asked_at_s = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                key = await self._store.get(key_id)
                if key is None:
                    await self._guard.require_whole()
        except AdapterCorrupt as error:
            # The trouble of one key is no outage for the others.
            _LOG.warning("%s", error)
            raise StoreUnavailable(_CANNOT_SAY) from None
        except NotReady:
            # The store answers, but may lack this key: no outage for those that it has.
            return self._recall(key_id)
        except ServiceError as error:
            self._fail(error.message)
        except TimeoutError:
            self._fail("The store of keys did not answer in time.")
        else:
            self._remember(key_id, _Known(key, asked_at_s))
            return key
        return self._recall(key_id)

    def _remember(self, key_id: str, known: _Known) -> None:
        if self._outage:
            _LOG.info("the store of keys answers again")
            self._outage = ""
        kept, other = self._known, self._unknown
        if known.key is None:
            kept, other = other, kept
        other.drop(key_id)
        kept.set(key_id, known)

    def _fail(self, message: str) -> None:
        if not self._outage:
            _LOG.warning("known keys go on as they are: %s", message)
        self._outage = message
        self._ask_again_at_s = self._clock() + self._pause_s

    def _recall(self, key_id: str) -> ApiKey | None:
        """From memory alone. Raises StoreUnavailable where it has nothing recent."""
        known = self._known.get(key_id)
        if known is None or not self._can_recall(key_id):
            raise StoreUnavailable(_CANNOT_SAY)
        return known.key

    def _can_recall(self, key_id: str) -> bool:
        known = self._known.get(key_id)
        return known is not None and self._clock() - known.asked_at_s < self._stale_max_s
