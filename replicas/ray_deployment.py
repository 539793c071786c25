"""The replica as a Ray Serve deployment: builds its parts in the replica's process."""

import logging
from collections.abc import AsyncGenerator

from ray import serve

from adapter_cache.config import CacheConfig
from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.node_cache import NodeCache
from adapter_cache.redis_store import RedisAdapterStore
from contracts.adapters import AdapterKey, Digest
from contracts.errors import StoreUnavailable
from contracts.generation import GenerateRequest, TokenBatch
from contracts.replica import ReplicaInfo
from replicas.config import ReplicaConfig
from replicas.echo_engine import EchoEngine
from replicas.engine import Engine
from replicas.replica import Replica

logger = logging.getLogger(__name__)


class ReplicaDeployment:
    """One engine per Serve replica. Serve sends traffic once `__init__` has returned."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, config: ReplicaConfig, cache: CacheConfig
    ) -> None:
        self._store = RedisAdapterStore(cache.redis_url, cache.key_prefix, cache.redis)
        node_cache = NodeCache(cache.node_cache_dir, cache.node_cache_bytes)
        tiers = [_StoreTier(self._store)]
        fetcher = AdapterFetcher(node_cache, tiers, limits=FetchLimits.of(cache))
        self._replica = Replica(make_engine(config), fetcher)
        info = await self._replica.start()
        logger.info("replica ready: %s, %d slots", info.model, info.num_slots)

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncGenerator[TokenBatch]:
        """See Replica.generate."""
        stream = self._replica.generate(requests)
        try:
            async for batch in stream:
                yield batch
        finally:
            await stream.aclose()

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        await self._replica.cancel(request_ids)

    async def describe(self) -> ReplicaInfo:
        return await self._replica.describe()

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        await self._replica.prefetch(keys)

    async def check_health(self) -> None:
        await self._replica.check()

    async def __del__(self) -> None:
        await self._replica.stop()
        await self._store.close()


class _StoreTier:
    """The store's blobs, which are only read here."""

    name = "redis"

    def __init__(self, store: RedisAdapterStore) -> None:
        self._store = store

    async def get(self, digest: Digest) -> bytes | None:
        return await self._store.fetch(digest)

    async def put(self, digest: Digest, blob: bytes) -> None:
        raise StoreUnavailable("the store takes whole adapters only")


def make_engine(config: ReplicaConfig) -> Engine:
    """The engine that the settings name; vLLM is imported here alone, in the replica's process."""
    if config.engine == "echo":
        return EchoEngine()
    from replicas.vllm_engine import VllmEngine

    return VllmEngine(config)


def replica_app(config: ReplicaConfig, cache: CacheConfig) -> serve.Application:
    """The replica deployment with its settings, to be bound to the door."""
    deployment = serve.deployment(
        ReplicaDeployment,
        name="replica",
        num_replicas=config.num_replicas,
        # A group call is one Serve request, however many it carries: never queue them here.
        max_ongoing_requests=4096,
        ray_actor_options={"num_cpus": config.num_cpus, "num_gpus": config.num_gpus},
        max_constructor_retry_count=2,
        graceful_shutdown_timeout_s=5,
    )
    return deployment.bind(config, cache)
