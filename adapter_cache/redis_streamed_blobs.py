"""Row blobs from one Redis or Valkey server, read by the thread that hashes and writes them."""

from contextlib import suppress

from redis import BlockingConnectionPool

from adapter_cache.arrival import Arrival
from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_faults import translated
from contracts.adapters import Digest
from contracts.errors import StoreUnavailable

_PIECE_BYTES = 1 << 17


class RedisStreamedBlobs(RedisBlobs):
    """RedisBlobs that are a StreamedTier, too.

    A blob is asked for in pieces, all at once: while one is hashed, the server sends the next. The
    event loop sees nothing of it.
    """

    def __init__(
        self,
        clients: RedisClients,
        pool: BlockingConnectionPool,
        key_prefix: str = "flora",
        ttl_s: float = 7 * 86400.0,
    ) -> None:
        super().__init__(clients, key_prefix, ttl_s)
        self._pool = pool

    def read(self, digest: Digest, size_bytes: int, arrival: Arrival) -> bool:
        """See StreamedTier. Nothing is tried twice: there is another tier to ask."""
        key = self._key(digest)
        starts = range(0, max(size_bytes, 1), _PIECE_BYTES)
        # The last piece is all that is left: the size may be wrong, the digest is not.
        ends = [*(at - 1 for at in starts[1:]), -1]
        pieces = [("GETRANGE", key, at, end) for at, end in zip(starts, ends, strict=True)]
        with translated():
            left_ms = self._ask([*pieces, ("PTTL", key)], arrival)
        if not arrival.size_bytes:
            return False
        if left_ms < self._ttl_ms // 2:
            with suppress(StoreUnavailable), translated():
                self._ask([("PEXPIRE", key, self._ttl_ms)], arrival)
        return True

    def _ask(self, commands: list[tuple[str | int, ...]], arrival: Arrival) -> int:
        """All commands but the last give pieces, that one a number."""
        connection = self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands[:-1]:
                arrival.add(connection.read_response())
            return int(connection.read_response())
        except BaseException:
            # Replies that nobody has read would be taken for those of the next commands.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)  # type: ignore[no-untyped-call]


def redis_blob_tier(clients: RedisClients, key_prefix: str, ttl_s: float) -> RedisBlobs:
    """The tier for a node: streamed where `clients` speak to one server."""
    pool = clients.blocking
    if pool is None:
        return RedisBlobs(clients, key_prefix, ttl_s)
    return RedisStreamedBlobs(clients, pool, key_prefix, ttl_s)
