"""The adapter store in Redis or Valkey. Its errors are translated in `redis_faults`.

    <prefix>:{<tenant>}:adapters   hash    name            -> record of the current version
                                           name@<version>  -> record of an older version
    <prefix>:{<tenant>}:names      zset    every name, all scores 0: order of bytes, for paging
    <prefix>:blob:{<digest>}       string  the row blob
    <prefix>:refs:{<digest>}       int     how many records refer to the blob, never too few

A name has one field until it is published again, so a million adapters cost about 300 bytes each.
The braces are Redis Cluster hash tags: what one script touches lies in one slot. A tenant's small
records share a slot; the blobs, which are nearly all of the bytes, spread over all of them.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import FullJitterBackoff, NoBackoff

from adapter_cache.config import RedisLimits
from adapter_cache.digest import verify_blob
from adapter_cache.record import decode_key, decode_record, encode_record
from adapter_cache.redis_faults import translated
from adapter_cache.store import is_name, require_limit, require_name
from contracts.adapters import AdapterKey, AdapterManifest, AdapterRef, Digest, TenantId
from contracts.errors import StoreUnavailable

_log = logging.getLogger(__name__)

# Allocates the version, keeps the old record and moves the pointer in one step.
# ARGV: name, digest, record without its version. Returns {1 if it is new, record}.
_PUBLISH = """
local version = 1
local current = redis.call('HGET', KEYS[1], ARGV[1])
if current then
  local kept, digest = string.match(current, '^(%d+):(%x+):')
  if digest == ARGV[2] then return {0, current} end
  redis.call('HSET', KEYS[1], ARGV[1] .. '@' .. kept, current)
  version = tonumber(kept) + 1
end
local record = string.format('%d', version) .. ':' .. ARGV[3]
redis.call('HSET', KEYS[1], ARGV[1], record)
redis.call('ZADD', KEYS[2], 0, ARGV[1])
return {1, record}
"""

# Removes a name and all its versions. ARGV: name. Returns the records that are gone.
_DELETE = """
local current = redis.call('HGET', KEYS[1], ARGV[1])
if not current then return {} end
local records = {current}
for version = 1, tonumber(string.match(current, '^(%d+):')) - 1 do
  local field = ARGV[1] .. '@' .. string.format('%d', version)
  records[#records + 1] = redis.call('HGET', KEYS[1], field)
  redis.call('HDEL', KEYS[1], field)
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return records
"""

# Gives back one reference; the last one takes the blob along. KEYS: blob, refs.
_RELEASE = """
if redis.call('DECR', KEYS[2]) <= 0 then redis.call('UNLINK', KEYS[1], KEYS[2]) end
"""


class RedisAdapterStore:
    """AdapterStore over one Redis or Valkey server. Bound to the event loop that first uses it.

    Reads are retried by the client. Writes are sent once, because their replies say how many
    references a blob has lost: counting one twice would drop a blob in use. An unanswered write
    can only leave a reference too many, that is, bytes that wait for garbage collection.
    """

    def __init__(
        self, url: str, key_prefix: str = "flora", limits: RedisLimits | None = None
    ) -> None:
        limits = limits or RedisLimits()
        self._prefix = key_prefix
        backoff = FullJitterBackoff(cap=0.25, base=0.02)
        self._reads = _connect(url, limits, Retry(backoff, limits.max_retries))
        self._writes = _connect(url, limits, Retry(NoBackoff(), 0))

    async def publish(
        self,
        tenant: TenantId,
        name: str,
        blob: bytes,
        *,
        digest: Digest,
        base_fingerprint: str,
        rank: int,
        num_modules: int,
        created_at_s: float,
    ) -> AdapterManifest:
        require_name(name)
        await asyncio.to_thread(verify_blob, digest, blob)
        # Version 0 is a place holder: the script allocates the version.
        key = AdapterKey(tenant, name, 0, digest, len(blob))
        draft = AdapterManifest(key, base_fingerprint, rank, num_modules, created_at_s)
        _, _, record = encode_record(draft).partition(":")
        await self._keep_blob(digest, blob)
        with translated():
            is_new, kept = await self._writes.eval(
                _PUBLISH, 2, *self._registry_keys(tenant), name, digest, record
            )
        if not is_new:
            await self._release_blobs([digest])
        return decode_record(tenant, name, kept.decode())

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        records = await self._records(refs)
        return [
            None if record is None else decode_key(ref.tenant, ref.name, record)
            for ref, record in zip(refs, records, strict=True)
        ]

    async def fetch(self, digest: Digest) -> bytes | None:
        with translated():
            # The client's types allow text, which it gives only when told to decode replies.
            return cast("bytes | None", await self._reads.get(self._blob_keys(digest)[0]))

    async def describe(self, ref: AdapterRef) -> AdapterManifest | None:
        [record] = await self._records([ref])
        return None if record is None else decode_record(ref.tenant, ref.name, record)

    async def versions(self, tenant: TenantId, name: str) -> list[AdapterManifest]:
        current = await self.describe(AdapterRef(tenant, name))
        if current is None:
            return []
        older = [AdapterRef(tenant, name, version) for version in range(1, current.key.version)]
        records = await self._records(older)
        kept = [decode_record(tenant, name, record) for record in records if record is not None]
        return [*kept, current]

    async def page(
        self, tenant: TenantId, cursor: str, limit: int
    ) -> tuple[list[AdapterManifest], str]:
        require_limit(limit)
        adapters, names_key = self._registry_keys(tenant)
        after = f"({cursor}" if cursor else "-"
        with translated():
            names = await self._reads.zrangebylex(names_key, after, "+", start=0, num=limit + 1)
            shown = [_text(name) for name in names[:limit]]
            records = await self._reads.hmget(adapters, shown) if shown else []
        # A name may have been deleted between the two reads.
        page = [
            decode_record(tenant, name, _text(record))
            for name, record in zip(shown, records, strict=True)
            if record is not None
        ]
        return page, shown[-1] if len(names) > limit else ""

    async def delete(self, tenant: TenantId, name: str) -> bool:
        if not is_name(name):
            return False
        with translated():
            records = await self._writes.eval(_DELETE, 2, *self._registry_keys(tenant), name)
        gone = [decode_key(tenant, name, record.decode()).digest for record in records]
        await self._release_blobs(gone)
        return bool(gone)

    async def ping(self) -> None:
        with translated():
            await self._reads.ping()

    async def close(self) -> None:
        with translated():
            await self._reads.aclose()
            await self._writes.aclose()

    def __repr__(self) -> str:
        return f"<RedisAdapterStore {self._prefix!r}>"

    async def _records(self, refs: Sequence[AdapterRef]) -> list[str | None]:
        """The record of each ref in one round trip: one HMGET for each tenant among them."""
        wanted = [
            (self._registry_keys(ref.tenant)[0], field) for ref in refs for field in _fields(ref)
        ]
        by_hash: dict[str, dict[str, None]] = {}
        for key, field in wanted:
            by_hash.setdefault(key, {})[field] = None
        if not by_hash:
            return [None] * len(refs)
        pipeline = self._reads.pipeline(transaction=False)
        for key, fields in by_hash.items():
            pipeline.hmget(key, list(fields))
        with translated():
            replies = await pipeline.execute()
        found = {
            (key, field): record.decode()
            for (key, fields), reply in zip(by_hash.items(), replies, strict=True)
            for field, record in zip(fields, reply, strict=True)
            if record is not None
        }
        return [self._pick(ref, found) for ref in refs]

    def _pick(self, ref: AdapterRef, found: dict[tuple[str, str], str]) -> str | None:
        """The record that `ref` means: the current one also answers to its own number."""
        key = self._registry_keys(ref.tenant)[0]
        current = found.get((key, ref.name))
        if ref.version is None or current is None:
            return current
        if current.startswith(f"{ref.version}:"):
            return current
        return found.get((key, f"{ref.name}@{ref.version}"))

    async def _keep_blob(self, digest: Digest, blob: bytes) -> None:
        """Store the blob and count a reference at once, before any record can name it."""
        blob_key, refs_key = self._blob_keys(digest)
        pipeline = self._writes.pipeline(transaction=True)
        pipeline.set(blob_key, blob, nx=True)
        pipeline.incr(refs_key)
        with translated():
            await pipeline.execute()

    async def _release_blobs(self, digests: Iterable[Digest]) -> None:
        """Give back one reference each. The caller's work is done: a failure leaves only garbage.

        Counting references beats searching all records at each delete, and needs no lock: the
        count goes up before a record is written and down after it is gone, so it errs only upwards.
        """
        pipeline = self._writes.pipeline(transaction=False)
        for digest in digests:
            pipeline.eval(_RELEASE, 2, *self._blob_keys(digest))
        try:
            with translated():
                await pipeline.execute()
        except StoreUnavailable as error:
            _log.warning("unreferenced adapter blobs stay in the store: %s", error)

    def _registry_keys(self, tenant: TenantId) -> tuple[str, str]:
        stem = f"{self._prefix}:{{{tenant}}}"
        return f"{stem}:adapters", f"{stem}:names"

    def _blob_keys(self, digest: Digest) -> tuple[str, str]:
        return f"{self._prefix}:blob:{{{digest}}}", f"{self._prefix}:refs:{{{digest}}}"


def _fields(ref: AdapterRef) -> tuple[str, ...]:
    if not is_name(ref.name):
        return ()
    return (ref.name,) if ref.version is None else (ref.name, f"{ref.name}@{ref.version}")


def _text(reply: bytes | str) -> str:
    return reply if isinstance(reply, str) else reply.decode()


def _connect(url: str, limits: RedisLimits, retry: Retry) -> Redis:
    try:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=limits.max_connections,
            timeout=limits.reply_timeout_s,
            socket_connect_timeout=limits.connect_timeout_s,
            socket_timeout=limits.reply_timeout_s,
            retry=retry,
            # With protocol 3 the client skips its check that a pooled connection is still alive,
            # and a write, which is sent once, would fail after each restart of the server.
            protocol=2,
        )
    except ValueError:
        # The client's own message may quote the URL, and with it a password.
        raise ValueError("redis_url is not a valid redis://, rediss:// or unix:// URL") from None
    return Redis.from_pool(pool)
