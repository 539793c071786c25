"""Records of API keys in Redis or Valkey: the quick copy that every ingress asks.

    <prefix>:key:<key id>   hash   record: JSON, generation: its number, revoked: "1" or absent

Revocation is a field of its own, so that no late write of a record takes it back. No key expires:
a server that evicts volatile keys alone keeps all of them.
"""

from adapter_cache.redis_connect import RedisClients
from app.api_key import ApiKey, decode_key, encode_key

# KEYS: the hash. ARGV: generation, record. Returns 1 where the record is kept.
_PUT = """
local known = tonumber(redis.call('HGET', KEYS[1], 'generation') or 0)
if known > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'record', ARGV[2])
return 1
"""


class RedisKeys:
    """KeyStore over the servers of `clients`, which somebody else closes."""

    def __init__(self, clients: RedisClients, key_prefix: str = "flora") -> None:
        self._clients = clients
        self._prefix = key_prefix

    async def get(self, key_id: str) -> ApiKey | None:
        async with self._clients.reading() as redis:
            record, revoked = await redis.hmget(self._key(key_id), ["record", "revoked"])
        # Marked as revoked, and its record lost: nothing that could open.
        if record is None:
            return None
        return decode_key(key_id, record, is_revoked=revoked is not None)

    async def put(self, key: ApiKey) -> bool:
        async with self._clients.writing() as redis:
            kept = await redis.eval(
                _PUT, 1, self._key(key.key_id), str(key.generation), encode_key(key)
            )
        return bool(kept)

    async def revoke(self, key_id: str) -> None:
        async with self._clients.writing() as redis:
            await redis.hset(self._key(key_id), "revoked", "1")

    def __repr__(self) -> str:
        return f"<RedisKeys {self._prefix!r}>"

    def _key(self, key_id: str) -> str:
        return f"{self._prefix}:key:{key_id}"
