"""The adapter cache's shared stores, put together from the settings: for the door and the CLI."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from adapter_cache.blobs import BlobTier
from adapter_cache.changes import ChangeFeed
from adapter_cache.config import CacheConfig
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_feed import RedisFeed
from adapter_cache.redis_marker import RedisMarker
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.redis_round_trip import RedisRoundTrip
from adapter_cache.redis_usage import RedisUsage
from adapter_cache.registry import Registry
from adapter_cache.registry_guard import RegistryMarker
from adapter_cache.store import AdapterStore
from adapter_cache.usage import AdapterUsage
from app.fsspec_keys import FsspecKeys
from app.redis_keyring import RedisKeys
from contracts.errors import InvalidRequest

_LOCAL = "file://"


@dataclass(frozen=True, slots=True)
class Stores:
    """One process's connections: `adapters` over all of the others."""

    adapters: AdapterStore
    registry: Registry
    hot: BlobTier
    objects: FsspecObjects
    feed: ChangeFeed
    usage: AdapterUsage
    marker: RegistryMarker
    clients: RedisClients
    trip: RedisRoundTrip
    keys: RedisKeys
    key_files: FsspecKeys

    async def close(self) -> None:
        """Release all connections."""
        await self.key_files.close()
        await self.adapters.close()


def open_stores(cache: CacheConfig) -> Stores:
    """Opens no connection yet. `cache` has a `redis_url`; `with_object_store` gave it the other.

    Raises InvalidRequest for a malformed URL, without showing it.
    """
    try:
        clients = RedisClients.connect(cache.redis_url, cache.redis)
        objects_url = with_object_store(cache).object_store_url
        objects, key_files = FsspecObjects(objects_url), FsspecKeys(objects_url)
    except ValueError as error:
        raise InvalidRequest(f"cache: {error}", "cache") from None
    trip = RedisRoundTrip(clients)
    registry = RedisRegistry(clients, cache.key_prefix, trip)
    hot = RedisBlobs(clients, cache.key_prefix, cache.blob_ttl_s)
    feed = RedisFeed(clients, cache.key_prefix)
    return Stores(
        adapters=DurableAdapterStore(
            registry, hot, objects, feed, keep_versions=cache.keep_versions
        ),
        registry=registry,
        hot=hot,
        objects=objects,
        feed=feed,
        usage=RedisUsage(clients, cache.key_prefix, time.time),
        marker=RedisMarker(clients, cache.key_prefix),
        clients=clients,
        trip=trip,
        keys=RedisKeys(clients, cache.key_prefix),
        key_files=key_files,
    )


def with_object_store(cache: CacheConfig) -> CacheConfig:
    """`cache` with an object store that means the same in every process of this machine.

    Empty becomes the folder `objects` beside `valkey_dir`; a local path becomes absolute.
    """
    url = cache.object_store_url
    if url and not url.startswith(_LOCAL):
        return cache
    folder = (
        Path(url.removeprefix(_LOCAL)) if url else cache.valkey_dir.resolve().parent / "objects"
    )
    return replace(cache, object_store_url=f"{_LOCAL}{folder.resolve()}")
