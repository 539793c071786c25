"""News of moved versions over one capped stream, `<prefix>:changes`.

A reader remembers the last entry it has seen and, after each reply, looks whether that entry is
still there. Entries go from the oldest on, so if it is, nothing between has gone unseen; if not,
the stream was cut, emptied or is another one. So that there always is such an entry, a reader
starts by adding one of its own, without fields of a change, which all others pass over.
"Still there" means with its fields: a server numbers entries by its clock's milliseconds, and
so may give the first entry of a stream begun anew the very id that was the last of the old one.

After a lost connection that would not do: a server that comes back, or the replica that took
over, may lack entries that came after the last one seen. So each reconnect counts as a gap.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any, cast
from uuid import uuid4

from redis.backoff import FullJitterBackoff

from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_faults import translated
from contracts.adapters import AdapterChange, AdapterKey, Digest, TenantId
from contracts.errors import StoreUnavailable

_log = logging.getLogger(__name__)
_BACKOFF = FullJitterBackoff(cap=2.0, base=0.1)
_MAX_BATCH = 1000
_Entry = tuple[bytes, Mapping[bytes, bytes]]
_Streams = list[tuple[bytes, list[_Entry]]]


class RedisFeed:
    """ChangeFeed over the servers of `clients`, which somebody else closes.

    The stream keeps about `max_entries`. A reader has one connection of its own and asks again
    every `wait_s` at the latest.
    """

    def __init__(
        self,
        clients: RedisClients,
        key_prefix: str = "flora",
        *,
        max_entries: int = 10_000,
        wait_s: float = 5.0,
    ) -> None:
        self._clients = clients
        self._key = f"{key_prefix}:changes"
        self._max_entries = max_entries
        self._wait_s = wait_s
        self._is_failing = False

    async def announce(self, change: AdapterChange) -> None:
        try:
            async with self._clients.writing() as redis:
                await redis.xadd(self._key, encode_change(change), maxlen=self._max_entries)
        except StoreUnavailable as error:
            if not self._is_failing:
                _log.warning("changes of adapters are not announced: %s", error)
            self._is_failing = True
        else:
            self._is_failing = False

    async def changes(self) -> AsyncGenerator[AdapterChange | None]:
        failures = 0
        has_missed = False
        while True:
            reader = _Reader(self._clients, self._key, self._wait_s)
            try:
                await reader.join(self._max_entries)
                if has_missed:
                    yield None
                has_missed = True
                while not reader.has_gap:
                    for change in await reader.read():
                        yield change
                    failures = 0
                continue
            except StoreUnavailable as error:
                if not failures:
                    _log.warning("changes of adapters are not followed: %s", error)
                failures, has_missed = failures + 1, True
            finally:
                await reader.close()
            await asyncio.sleep(_BACKOFF.compute(failures))

    def __repr__(self) -> str:
        return f"<RedisFeed {self._key!r}>"


class _Reader:
    """One connection's view of the stream, up to the first gap."""

    def __init__(self, clients: RedisClients, key: str, wait_s: float) -> None:
        self._redis = clients.listener()
        self._key = key
        self._wait_ms = max(1, round(wait_s * 1000))
        self._timeout_s = wait_s + clients.limits.reply_timeout_s
        self._last: _Entry = (b"", {})
        self.has_gap = False

    async def join(self, max_entries: int) -> None:
        """Start after the newest entry, with one that is there to be found again."""
        token = uuid4().hex
        with translated():
            async with asyncio.timeout(self._timeout_s):
                added = await self._redis.xadd(self._key, {"joined": token}, maxlen=max_entries)
        self._last = (cast("bytes", added), {b"joined": token.encode()})

    async def read(self) -> list[AdapterChange]:
        """What came since the last call, after a while possibly nothing; or sets `has_gap`."""
        last, _ = self._last
        with translated():
            async with asyncio.timeout(self._timeout_s):
                reply = await self._redis.xread({self._key: last}, _MAX_BATCH, self._wait_ms)
                seen = await self._redis.xrange(self._key, last, last)
        # With protocol 2: one pair of stream and entries, or nothing.
        entries = cast("_Streams", reply)[0][1] if reply else []
        if cast("list[_Entry]", seen) != [self._last]:
            self.has_gap = True
            return []
        if entries:
            self._last = entries[-1]
        try:
            return [decode_change(fields) for _, fields in entries if b"name" in fields]
        except (KeyError, ValueError):
            # Written by a version of this program that says it otherwise.
            self.has_gap = True
            return []

    async def close(self) -> None:
        with suppress(StoreUnavailable), translated():
            await self._redis.aclose()


def encode_change(change: AdapterChange) -> dict[Any, Any]:
    """The fields of one entry of the stream."""
    fields = {"tenant": change.tenant, "name": change.name, "old": change.old}
    if change.new is not None:
        key = change.new
        fields |= {"version": str(key.version), "new": key.digest, "bytes": str(key.size_bytes)}
    return fields


def decode_change(fields: Mapping[bytes, bytes]) -> AdapterChange:
    """Inverse of `encode_change`. Raises KeyError or ValueError for other fields."""
    text = {name.decode(): value.decode() for name, value in fields.items()}
    tenant, name, old = TenantId(text["tenant"]), text["name"], Digest(text["old"])
    if "new" not in text:
        return AdapterChange(tenant, name, old, None)
    digest = Digest(text["new"])
    new = AdapterKey(tenant, name, int(text["version"]), digest, int(text["bytes"]))
    return AdapterChange(tenant, name, old, new)
