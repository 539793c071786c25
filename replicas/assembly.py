"""A replica and everything below it, built from the settings."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.config import CacheConfig
from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.node_cache import NodeCache
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_feed import RedisFeed
from adapter_cache.redis_marker import RedisMarker
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.redis_streamed_blobs import redis_blob_tier
from adapter_cache.redis_usage import RedisUsage
from adapter_cache.registry_guard import MarkerGuard
from contracts.adapters import AdapterKey
from contracts.tracing import NO_TRACER, Tracer
from replicas.change_follower import ChangeFollower
from replicas.config import ReplicaConfig
from replicas.echo_engine import EchoEngine
from replicas.engine import Engine
from replicas.fair_gate import FairGate
from replicas.fair_limits import FairLimits
from replicas.lora_seats import LoraSeats
from replicas.queue_metrics import QueueMetrics
from replicas.replica import Replica
from replicas.replica_metrics import ReplicaMetrics
from replicas.residents import Residents
from replicas.usage_reporter import UsageReporter
from replicas.warm_start import Share, WarmStart

_DEFAULT_LIMITS = FairLimits()
_MAX_RESIDENTS = 1024


class Assembly:
    """One process's replica, its metrics and its connections.

    Opens none before the replica starts, and starts without Redis. `cache` has a `redis_url` and
    an `object_store_url`; `queue` says what the engine takes at a time, `seats` which of its
    LoRA adapters, and `share` which adapters are this replica's own. Raises ValueError for a
    malformed URL.
    """

    def __init__(
        self,
        engine: Engine,
        cache: CacheConfig,
        queue: FairLimits = _DEFAULT_LIMITS,
        tracer: Tracer = NO_TRACER,
        share: Share | None = None,
        seats: LoraSeats | None = None,
    ) -> None:
        clients = RedisClients.connect(cache.redis_url, cache.redis)
        blobs = redis_blob_tier(clients, cache.key_prefix, cache.blob_ttl_s)
        objects = FsspecObjects(cache.object_store_url)
        registry = RedisRegistry(clients, cache.key_prefix)
        usage = RedisUsage(clients, cache.key_prefix)
        node = NodeCache(cache.node_cache_dir, cache.node_cache_bytes)
        counts = CacheMetrics()
        limits = FetchLimits.of(cache)
        fetcher = AdapterFetcher(node, [blobs, objects], limits=limits, metrics=counts)
        feed = RedisFeed(clients, cache.key_prefix)
        guard = MarkerGuard(RedisMarker(clients, cache.key_prefix))
        follower = ChangeFollower(feed, registry, guard, node, fetcher, engine)
        reporter = UsageReporter(usage, every_s=cache.usage_report_s)
        residents = Residents(node, _MAX_RESIDENTS)
        warm = WarmStart(
            usage,
            registry,
            fetcher,
            limit=cache.warm_adapters,
            timeout_s=cache.warm_timeout_s,
            note=_both(follower.note, residents.note),
            share=share,
        )
        following = [follower] if cache.follow_changes else []
        companions = [*following, reporter, warm, residents]
        gate = FairGate(queue, QueueMetrics(counts.registry))
        self.replica = Replica(engine, fetcher, companions, gate, tracer, residents, seats)
        self.metrics = ReplicaMetrics(counts, self.replica.slots)
        self._owned = AsyncExitStack()
        self._owned.push_async_callback(clients.close)
        self._owned.push_async_callback(objects.close)

    async def close(self) -> None:
        """Stop the replica, then release the connections whatever happened to it."""
        async with self._owned:
            await self.replica.stop()


def _both(*notes: Callable[[AdapterKey], None]) -> Callable[[AdapterKey], None]:
    def note(key: AdapterKey) -> None:
        for each in notes:
            each(key)

    return note


def make_seats(config: ReplicaConfig) -> LoraSeats | None:
    """One a LoRA slot; None where there are none."""
    return LoraSeats(config.lora_slots, config.max_waiting) if config.lora_rank else None


def make_engine(config: ReplicaConfig) -> Engine:
    """The engine that the settings name; vLLM is imported here alone, in the replica's process."""
    if config.engine == "echo":
        return EchoEngine(
            step_s=config.echo_step_s,
            max_num_seqs=config.max_running_seqs,
            # Like a real one, it tells the models apart that it stands for.
            base=f"echo-{Path(config.model).name.lower()}",
            lora_rank=config.lora_rank,
        )
    from replicas.vllm_engine import VllmEngine

    return VllmEngine(config)
