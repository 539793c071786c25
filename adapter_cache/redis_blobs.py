"""Row blobs in Redis or Valkey, for as long as they are asked for. Never opens a payload.

    <prefix>:blob:<digest>   string with a time to live   the row blob

The digest is the whole name, so the blobs of a cluster spread over its nodes. They are large and
expire, so they are what a server drops that is short of memory and evicts volatile keys alone.
"""

from contextlib import suppress

from adapter_cache.redis_connect import RedisClients
from contracts.adapters import Digest
from contracts.errors import StoreUnavailable


class RedisBlobs:
    """BlobTier over the servers of `clients`, which somebody else closes.

    A blob lives for `ttl_s` after it was put, or after a read that found less than half of that
    left: most reads so stay reads, and work on a server that refuses writes for the moment.
    """

    name = "redis"

    def __init__(
        self, clients: RedisClients, key_prefix: str = "flora", ttl_s: float = 7 * 86400.0
    ) -> None:
        self._clients = clients
        self._prefix = key_prefix
        self._ttl_ms = max(1, round(ttl_s * 1000))

    async def get(self, digest: Digest) -> bytes | None:
        key = self._key(digest)
        async with self._clients.reading() as redis:
            pipeline = redis.pipeline(transaction=False)
            pipeline.get(key)
            pipeline.pttl(key)
            blob, left_ms = await pipeline.execute()
        if blob is None:
            return None
        if left_ms < self._ttl_ms // 2:
            await self._refresh(key)
        return bytes(blob)

    async def put(self, digest: Digest, blob: bytes) -> None:
        async with self._clients.writing() as redis:
            await redis.set(self._key(digest), blob, px=self._ttl_ms)

    async def _refresh(self, key: str) -> None:
        # The bytes are at hand: if this fails, the worst is that they are fetched again later.
        with suppress(StoreUnavailable):
            async with self._clients.writing() as redis:
                await redis.pexpire(key, self._ttl_ms)

    def __repr__(self) -> str:
        return f"<RedisBlobs {self._prefix!r}>"

    def _key(self, digest: Digest) -> str:
        return f"{self._prefix}:blob:{digest}"
