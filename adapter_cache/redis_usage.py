"""How often adapters are asked for, over all replicas, in Redis or Valkey.

    <prefix>:usage:<hour>   zset with a time to live   name:tenant -> requests in that hour

A name holds no colon, so whatever the tenant is called, a member is read back without doubt.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping

from adapter_cache.redis_connect import RedisClients
from adapter_cache.store import is_name
from contracts.adapters import AdapterRef, TenantId

_BUCKET_S = 3600
_KEPT_BUCKETS = 2


class RedisUsage:
    """AdapterUsage over the servers of `clients`, which somebody else closes.

    Counts this hour and the one before, by `clock` in Unix seconds. An hour keeps its
    `max_adapters` most used.
    """

    def __init__(
        self,
        clients: RedisClients,
        key_prefix: str = "flora",
        clock: Callable[[], float] = time.time,
        *,
        max_adapters: int = 10_000,
    ) -> None:
        self._clients = clients
        self._prefix = key_prefix
        self._clock = clock
        self._max_adapters = max_adapters

    async def add(self, counts: Mapping[AdapterRef, int]) -> None:
        named = {ref: count for ref, count in counts.items() if is_name(ref.name) and count > 0}
        if not named:
            return
        key = self._keys()[0]
        async with self._clients.writing() as redis:
            pipeline = redis.pipeline(transaction=False)
            for ref, count in named.items():
                pipeline.zincrby(key, count, to_member(ref))
            pipeline.zremrangebyrank(key, 0, -self._max_adapters - 1)
            pipeline.expire(key, _KEPT_BUCKETS * _BUCKET_S)
            await pipeline.execute()

    async def most_used(self, limit: int) -> list[AdapterRef]:
        if limit < 1:
            return []
        async with self._clients.reading() as redis:
            pipeline = redis.pipeline(transaction=False)
            for key in self._keys():
                # Some more than asked for: what is next to the best in both may be best in sum.
                pipeline.zrevrange(key, 0, 2 * limit - 1, withscores=True)
            buckets = await pipeline.execute()
        total: Counter[bytes] = Counter()
        for bucket in buckets:
            total.update(dict(bucket))
        return [from_member(member) for member, _ in total.most_common(limit)]

    def __repr__(self) -> str:
        return f"<RedisUsage {self._prefix!r}>"

    def _keys(self) -> list[str]:
        hour = int(self._clock() // _BUCKET_S)
        return [f"{self._prefix}:usage:{hour - age}" for age in range(_KEPT_BUCKETS)]


def to_member(ref: AdapterRef) -> str:
    """What stands for `ref`, whose name must be one."""
    return f"{ref.name}:{ref.tenant}"


def from_member(member: bytes) -> AdapterRef:
    """Inverse of `to_member`."""
    name, _, tenant = member.decode().partition(":")
    return AdapterRef(TenantId(tenant), name)
