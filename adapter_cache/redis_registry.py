"""The registry in Redis or Valkey: small records, no bytes. Faults are named in `redis_faults`.

    <prefix>:{<tenant>}:adapter:<name>  string  record of the current version
    <prefix>:{<tenant>}:older:<name>    hash    older version -> its record
    <prefix>:{<tenant>}:pins:<name>     set     pinned versions
    <prefix>:{<tenant>}:shares:<name>   hash    reader, * for all -> version that was current then
    <prefix>:{<tenant>}:names           zset    every name, all scores 0: order of bytes, for paging

One string an adapter costs about 320 bytes with its name, whether a tenant has one adapter or a
million; records as fields of one hash a tenant cost half as much again for tenants with one. The
braces are Redis Cluster hash tags: all that one script touches lies in one slot. No key expires,
so a server that evicts volatile keys alone keeps all of them.
"""

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from typing import Any
from urllib.parse import quote

from adapter_cache.record import decode_key, decode_record, encode_record
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_round_trip import RedisRoundTrip
from adapter_cache.store import is_name, require_limit
from contracts.adapters import PUBLIC, AdapterKey, AdapterManifest, AdapterRef, TenantId

# KEYS: adapter, older, names. ARGV: name, version, record. Returns what was current.
_ADVANCE = """
local current = redis.call('GET', KEYS[1])
local at = current and string.match(current, '^(%d+):')
if at and tonumber(at) > tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
  return current
end
if at and at ~= ARGV[2] then redis.call('HSET', KEYS[2], at, current) end
redis.call('SET', KEYS[1], ARGV[3])
redis.call('ZADD', KEYS[3], 0, ARGV[1])
return at and current
"""

# KEYS: adapter, older, names, pins, shares. ARGV: name, highest version to go. Returns what went.
_REMOVE = """
local up_to, gone = tonumber(ARGV[2]), {}
local older = redis.call('HGETALL', KEYS[2])
for i = 1, #older, 2 do
  if tonumber(older[i]) <= up_to then
    gone[#gone + 1] = older[i + 1]
    redis.call('HDEL', KEYS[2], older[i])
    redis.call('SREM', KEYS[4], older[i])
  end
end
local shares = redis.call('HGETALL', KEYS[5])
for i = 1, #shares, 2 do
  if tonumber(shares[i + 1]) <= up_to then redis.call('HDEL', KEYS[5], shares[i]) end
end
local current = redis.call('GET', KEYS[1])
if current and tonumber(string.match(current, '^(%d+):') or 0) <= up_to then
  gone[#gone + 1] = current
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[4], KEYS[5])
  redis.call('ZREM', KEYS[3], ARGV[1])
end
return gone
"""


class RedisRegistry:
    """Registry over the servers of `clients`, which it closes. Look-ups go with `trip`."""

    def __init__(
        self, clients: RedisClients, key_prefix: str = "flora", trip: RedisRoundTrip | None = None
    ) -> None:
        self._clients = clients
        self._trip = trip or RedisRoundTrip(clients)
        self._prefix = key_prefix

    async def advance(self, manifest: AdapterManifest) -> AdapterKey | None:
        tenant, name = manifest.key.tenant, manifest.key.name
        keys = [self._key(tenant, kind, name) for kind in ("adapter", "older")]
        keys.append(self._names(tenant))
        async with self._clients.writing() as redis:
            before = await redis.eval(
                _ADVANCE, len(keys), *keys, name, str(manifest.key.version), encode_record(manifest)
            )
        return None if before is None else decode_key(tenant, name, before.decode())

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        return [
            None if record is None else decode_key(ref.tenant, ref.name, record)
            for ref, record in zip(refs, await self._records(refs), strict=True)
        ]

    async def describe(self, ref: AdapterRef) -> AdapterManifest | None:
        [record] = await self._records([ref])
        return None if record is None else decode_record(ref.tenant, ref.name, record)

    async def versions(self, tenant: TenantId, name: str) -> list[AdapterManifest]:
        # The current one is read first: should it move between, it is found among the older ones.
        keys = [self._key(tenant, kind, name) for kind in ("adapter", "older")]
        current, older = await self._read([("GET", keys[0]), ("HVALS", keys[1])])
        # Removed between the two reads, or never there.
        return [] if current is None else _manifests(tenant, name, [*older, current])

    async def page(
        self, tenant: TenantId, cursor: str, limit: int
    ) -> tuple[list[AdapterManifest], str]:
        require_limit(limit)
        after = f"({cursor}" if cursor else "-"
        async with self._clients.reading() as redis:
            found = await redis.zrangebylex(self._names(tenant), after, "+", start=0, num=limit + 1)
        names = [_text(name) for name in found[:limit]]
        records = await self._read([("GET", self._key(tenant, "adapter", name)) for name in names])
        # A name may have been removed between the two reads.
        page = [
            decode_record(tenant, name, record.decode())
            for name, record in zip(names, records, strict=True)
            if record is not None
        ]
        return page, names[-1] if len(found) > limit else ""

    async def forget(self, tenant: TenantId, name: str, versions: Collection[int]) -> None:
        # The current version is never among the older ones.
        if versions and is_name(name):
            async with self._clients.writing() as redis:
                await redis.hdel(self._key(tenant, "older", name), *map(str, versions))

    async def remove(self, tenant: TenantId, name: str, up_to: int) -> list[AdapterManifest]:
        if not is_name(name):
            return []
        keys = [self._key(tenant, kind, name) for kind in ("adapter", "older")]
        keys.append(self._names(tenant))
        keys += [self._key(tenant, kind, name) for kind in ("pins", "shares")]
        async with self._clients.writing() as redis:
            gone = await redis.eval(_REMOVE, len(keys), *keys, name, str(up_to))
        return _manifests(tenant, name, gone)

    async def pin(self, tenant: TenantId, name: str, version: int) -> None:
        async with self._clients.writing() as redis:
            await redis.sadd(self._key(tenant, "pins", name), str(version))

    async def unpin(self, tenant: TenantId, name: str, version: int) -> None:
        async with self._clients.writing() as redis:
            await redis.srem(self._key(tenant, "pins", name), str(version))

    async def pins(self, tenant: TenantId, name: str) -> frozenset[int]:
        async with self._clients.reading() as redis:
            return frozenset(map(int, await redis.smembers(self._key(tenant, "pins", name))))

    async def share(self, tenant: TenantId, name: str, reader: TenantId, version: int) -> None:
        async with self._clients.writing() as redis:
            await redis.hset(self._key(tenant, "shares", name), reader, str(version))

    async def unshare(self, tenant: TenantId, name: str, reader: TenantId) -> None:
        async with self._clients.writing() as redis:
            await redis.hdel(self._key(tenant, "shares", name), reader)

    async def shares(self, tenant: TenantId, name: str) -> dict[TenantId, int]:
        async with self._clients.reading() as redis:
            found = await redis.hgetall(self._key(tenant, "shares", name))
        return {TenantId(_text(reader)): int(version) for reader, version in found.items()}

    async def ping(self) -> None:
        await self._clients.ping()

    async def close(self) -> None:
        await self._clients.close()

    def __repr__(self) -> str:
        return f"<RedisRegistry {self._prefix!r}>"

    async def _records(self, refs: Sequence[AdapterRef]) -> list[str | None]:
        """The record of each ref, in one round trip for all."""
        lookups = [self._lookups(ref) for ref in refs]
        commands = list(dict.fromkeys(chain.from_iterable(lookups)))
        found = dict(zip(commands, await self._trip.ask(commands), strict=True))
        return [
            _pick(ref, [found[command] for command in lookup])
            for ref, lookup in zip(refs, lookups, strict=True)
        ]

    def _lookups(self, ref: AdapterRef) -> list[tuple[str, ...]]:
        """What to ask for `ref`: its shares where somebody else asks, the current record, and
        the older one if it names a version.

        In this order: should the version be superseded between, it is found as an older one.
        """
        if not is_name(ref.name):
            return []
        lookups: list[tuple[str, ...]] = [("GET", self._key(ref.tenant, "adapter", ref.name))]
        if ref.version is not None:
            lookups.append(("HGET", self._key(ref.tenant, "older", ref.name), str(ref.version)))
        if ref.reader is not None:
            shares = self._key(ref.tenant, "shares", ref.name)
            lookups.insert(0, ("HMGET", shares, ref.reader, PUBLIC))
        return lookups

    async def _read(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        if not commands:
            return []
        async with self._clients.reading() as redis:
            pipeline = redis.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)
            return await pipeline.execute()

    def _key(self, tenant: TenantId, kind: str, name: str) -> str:
        return f"{self._prefix}:{{{quote(tenant, safe='')}}}:{kind}:{name}"

    def _names(self, tenant: TenantId) -> str:
        return f"{self._prefix}:{{{quote(tenant, safe='')}}}:names"


def _text(reply: bytes | str) -> str:
    """The client's types allow text, which it gives only when told to decode replies."""
    return reply if isinstance(reply, str) else reply.decode()


def _pick(ref: AdapterRef, replies: Sequence[Any]) -> str | None:
    """The record among the replies to the lookups of `ref` that is the version it asks for."""
    if ref.reader is not None and replies:
        shares, *replies = replies
        if not any(shares):
            return None
    records = [reply.decode() for reply in replies if reply is not None]
    if ref.version is None:
        return records[0] if records else None
    return next((record for record in records if record.startswith(f"{ref.version}:")), None)


def _manifests(tenant: TenantId, name: str, records: Iterable[bytes]) -> list[AdapterManifest]:
    """Each version once, lowest first."""
    found = [decode_record(tenant, name, record.decode()) for record in records]
    by_version = {manifest.key.version: manifest for manifest in found}
    return [by_version[version] for version in sorted(by_version)]
