"""The registry's marker in Redis or Valkey: `<prefix>:epoch`, one string without an expiry.

It says `rebuilding:<token>` or `whole:<token>`. Whoever empties the server takes it along, and with
it the token, so that a rebuild that has lost part of its work cannot call the registry complete. In
a cluster it lies on one node, and tells of that one alone.
"""

from adapter_cache.redis_connect import RedisClients

# KEYS: marker. ARGV: what it is to say if it says nothing. Returns what it says then.
_BEGIN = """
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return redis.call('GET', KEYS[1])
"""

# KEYS: marker. ARGV: the token. Returns 1 where the registry is complete since that token's begin.
_FINISH = """
local found = redis.call('GET', KEYS[1])
if found == 'rebuilding:' .. ARGV[1] then
  redis.call('SET', KEYS[1], 'whole:' .. ARGV[1])
  return 1
end
return found == 'whole:' .. ARGV[1] and 1 or 0
"""

_WHOLE = b"whole:"
_REBUILDING = "rebuilding:"


class RedisMarker:
    """RegistryMarker over the servers of `clients`, which somebody else closes."""

    def __init__(self, clients: RedisClients, key_prefix: str = "flora") -> None:
        self._clients = clients
        self._key = f"{key_prefix}:epoch"

    async def is_whole(self) -> bool:
        async with self._clients.reading() as redis:
            found = await redis.get(self._key)
        # The client's types allow text, which it gives only when told to decode replies.
        return isinstance(found, bytes) and found.startswith(_WHOLE)

    async def begin(self, token: str) -> str:
        async with self._clients.writing() as redis:
            found = bytes(await redis.eval(_BEGIN, 1, self._key, _REBUILDING + token))
        return "" if found.startswith(_WHOLE) else found.decode().removeprefix(_REBUILDING)

    async def finish(self, token: str) -> bool:
        async with self._clients.writing() as redis:
            return bool(await redis.eval(_FINISH, 1, self._key, token))

    def __repr__(self) -> str:
        return f"<RedisMarker {self._key!r}>"
