"""From a URL to clients of one server, of a cluster, or of whom the sentinels call master.

Reads are repeated by the client, writes are sent once: what comes back from a write says what it
has changed, and a repeat would say "nothing". Before a write, a connection that the server has
closed meanwhile is found and replaced; not so in a cluster, where after the restart of a node one
write to it fails.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Self, cast

from redis import BlockingConnectionPool
from redis import connection as blocking
from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import FullJitterBackoff, NoBackoff
from redis.exceptions import NoPermissionError

from adapter_cache.config import RedisLimits
from adapter_cache.redis_faults import translated
from adapter_cache.redis_url import RedisUrl, parse_redis_url
from contracts.errors import NotReady, StoreUnavailable

_log = logging.getLogger(__name__)


class RedisClients:
    """The connections of one process. Bound to the event loop that first uses it.

    At most `limits.max_connections` calls of each kind are under way at a time, to each node; the
    next waits for `limits.reply_timeout_s`, then fails. All kinds of server are bounded here, as
    the pools for a cluster and for sentinels fail at once where the one for a server waits.
    """

    def __init__(self, url: RedisUrl, limits: RedisLimits) -> None:
        self._url = url
        self.limits = limits
        self._sentinel = _sentinel(url, limits) if url.kind == "sentinel" else None
        retries = Retry(FullJitterBackoff(cap=0.25, base=0.02), limits.max_retries)
        self.reads = self._client(retries, limits.reply_timeout_s)
        self.writes = self._client(Retry(NoBackoff(), 0), limits.reply_timeout_s)
        self.blocking = _blocking_pool(url, limits)
        """For threads; None where finding the right server takes more than an address."""
        self._places = {
            client: asyncio.Semaphore(limits.max_connections)
            for client in (self.reads, self.writes)
        }

    @classmethod
    def connect(cls, url: str, limits: RedisLimits | None = None) -> Self:
        """Clients for `url`; opens no connection yet. Raises ValueError for a malformed URL."""
        return cls(parse_redis_url(url), limits or RedisLimits())

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Redis]:
        """The client for reads, with faults as StoreUnavailable."""
        async with self._bounded(self.reads) as client:
            yield client

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Redis]:
        """The client for writes, with faults as StoreUnavailable."""
        async with self._bounded(self.writes) as client:
            yield client

    def listener(self) -> Redis:
        """One more client, for a caller that waits for news in a call, and closes it itself.

        It repeats nothing and never reconnects unnoticed: a lost connection is an error. Its calls
        have no time limit of their own: below Python 3.12 the one that the client would set can
        swallow a cancellation.
        """
        client = self._client(Retry(NoBackoff(), 0), None)
        # A pool would look for a dead connection, and replace it, before each call.
        if not isinstance(client, RedisCluster):
            client.single_connection_client = True
        return client

    async def require_safe_eviction(self) -> None:
        """Raise NotReady where the server, short of memory, would drop records of adapters."""
        try:
            async with self.reading() as client:
                infos = await _memory_of_primaries(client)
        except StoreUnavailable as error:
            if not isinstance(error.__cause__, NoPermissionError):
                raise
            _log.warning("cannot see whether Redis would evict the registry: INFO is forbidden")
            return
        for info in infos:
            policy = str(info.get("maxmemory_policy", ""))
            if policy.startswith("allkeys-") and int(info.get("maxmemory", 0)) > 0:
                raise NotReady(
                    f"Redis has maxmemory-policy {policy} and would evict the adapter registry;"
                    " set volatile-lfu, or noeviction"
                )

    async def ping(self) -> None:
        """Return when the server answers, else raise StoreUnavailable."""
        async with self.reading() as client:
            await client.ping()

    async def close(self) -> None:
        """Close all connections except those of listeners."""
        with translated():
            for client in (self.reads, self.writes, self._sentinel):
                if client is not None:
                    await client.aclose()
            if self.blocking is not None:
                self.blocking.disconnect()

    def __repr__(self) -> str:
        return f"<RedisClients {self._url.kind}>"

    @asynccontextmanager
    async def _bounded(self, client: Redis) -> AsyncIterator[Redis]:
        places = self._places[client]
        try:
            async with asyncio.timeout(self.limits.reply_timeout_s):
                await places.acquire()
        except TimeoutError:
            raise StoreUnavailable("the adapter store has no connection free") from None
        try:
            with translated():
                if isinstance(client, RedisCluster):
                    # Calls made before it knows the slots would go to any node.
                    await client.initialize()
                yield client
        finally:
            places.release()

    def _client(self, retry: Retry, reply_timeout_s: float | None) -> Redis:
        options: dict[str, Any] = {
            "max_connections": self.limits.max_connections,
            "socket_connect_timeout": self.limits.connect_timeout_s,
            "socket_timeout": reply_timeout_s,
            "retry": retry,
            # With protocol 3 the client skips its check that a pooled connection is still alive,
            # and a write, which is sent once, would fail after each restart of the server.
            "protocol": 2,
            **self._url.options,
        }
        if self._sentinel is not None:
            return cast("Redis", self._sentinel.master_for(self._url.master, **options))
        if self._url.kind == "cluster":
            nodes = [ClusterNode(host, port) for host, port in self._url.hosts]
            # It has the commands of a Redis but not its type.
            # By default every fifth moved slot closes all connections, those in use among them.
            cluster = RedisCluster(startup_nodes=nodes, reinitialize_steps=0, **options)
            return cast("Redis", cluster)
        return Redis.from_pool(ConnectionPool(**options))


def _blocking_pool(url: RedisUrl, limits: RedisLimits) -> BlockingConnectionPool | None:
    if url.kind != "single":
        return None
    options = {
        "max_connections": limits.max_connections,
        "timeout": limits.reply_timeout_s,
        "socket_connect_timeout": limits.connect_timeout_s,
        "socket_timeout": limits.reply_timeout_s,
        "protocol": 2,
        **url.options,
    }
    kind = options.pop("connection_class", blocking.Connection)
    # The URL was read for asyncio; the other kind of connection has the same name.
    options["connection_class"] = getattr(blocking, kind.__name__)
    return BlockingConnectionPool(**options)  # type: ignore[no-untyped-call]


def _sentinel(url: RedisUrl, limits: RedisLimits) -> Sentinel:
    options = {
        "socket_connect_timeout": limits.connect_timeout_s,
        "socket_timeout": limits.reply_timeout_s,
        "protocol": 2,
        # There are others to ask, and the caller asks again.
        "retry": Retry(NoBackoff(), 0),
        **url.sentinel_options,
    }
    return Sentinel(url.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]


async def _memory_of_primaries(client: Redis) -> list[dict[str, Any]]:
    if isinstance(client, RedisCluster):
        return [await client.info("memory", target_nodes=node) for node in client.get_primaries()]
    return [await client.info("memory")]
