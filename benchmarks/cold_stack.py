"""A replica with every tier behind it, for benchmarks: real Valkey, real files, real engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import numpy as np

from adapter_cache.config import CacheConfig, RedisLimits
from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.node_cache import NodeCache
from adapter_cache.redis_blobs import RedisBlobs
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_streamed_blobs import redis_blob_tier
from adapter_cache.valkey_server import ValkeyServer
from benchmarks.vllm_methods import load_row
from contracts.adapters import BASE, DEFAULT_TENANT, AdapterKey, Digest
from contracts.generation import GenerateRequest, Sampling
from flora.layout import AdapterLayout
from flora.row import encode_row
from replicas.config import ReplicaConfig
from replicas.replica import Replica
from replicas.vllm_engine import VllmEngine

_LOADED_IDS = 1 << 24
"""Beyond those that the engine gives to digests."""


class ColdStack:
    """Puts adapters where a benchmark wants them, and times answers."""

    def __init__(
        self,
        replica: Replica,
        engine: VllmEngine,
        fetcher: AdapterFetcher,
        hot: RedisBlobs,
        objects: FsspecObjects,
        layout: AdapterLayout,
    ) -> None:
        self.replica = replica
        self._engine = engine
        self.fetcher = fetcher
        self.hot = hot
        self.objects = objects
        self.layout = layout
        self._count = 0

    def request(self, key: AdapterKey, prompt: tuple[int, ...], num_tokens: int) -> GenerateRequest:
        """One greedy request of exactly `num_tokens`."""
        self._count += 1
        sampling = Sampling(num_tokens, temperature=0.0, ignore_eos=True)
        return GenerateRequest(f"request-{self._count}", key, prompt, sampling)

    async def ttft_s(self, key: AdapterKey, prompt: tuple[int, ...]) -> float:
        """From the call of the replica to the first token; the answer has no second one."""
        started_s = perf_counter()
        async for batch in self.replica.generate((self.request(key, prompt, 1),)):
            for delta in batch.deltas:
                if delta.error is not None:
                    raise delta.error
        return perf_counter() - started_s

    async def load(self, key: AdapterKey) -> None:
        """Bring an adapter to its slot as a request would, without the request."""
        self._count += 1
        async with self.fetcher.hold(key) as row:
            await load_row(self._engine.llm, _LOADED_IDS + self._count, row)

    async def make(self, place: str, rank: int, seed: int) -> AdapterKey:
        """A new random adapter in `place` ("slot", "node", "redis" or "store") and all below."""
        blob = random_row(self.layout, rank, seed)
        digest = Digest(sha256(blob).hexdigest())
        key = AdapterKey(DEFAULT_TENANT, f"cold-{seed}", 1, digest, len(blob))
        await self.objects.put(digest, blob)
        if place != "store":
            await self.hot.put(digest, blob)
        if place in ("slot", "node"):
            await self.fetcher.ensure(key)
        if place == "slot":
            await self.ttft_s(key, (1, 2, 3))
        return key


def random_row(layout: AdapterLayout, rank: int, seed: int, scale: float = 0.02) -> bytes:
    """A dense row of `rank` pairs on every group: what a tied adapter of that rank compiles to.

    The numbers are normal with standard deviation `scale`.
    """
    extra = [rank - 1] * len(layout.groups)
    rng = np.random.default_rng(seed)
    numbers = rng.normal(0, scale, layout.extra_offsets(extra)[-1]).astype(np.float32)
    return encode_row(layout, extra, numbers)


@asynccontextmanager
async def cold_stack(config: ReplicaConfig, folder: Path, store: Path) -> AsyncIterator[ColdStack]:
    """All of it, started; `folder` should be on tmpfs, `store` on a disk."""
    cache = CacheConfig(redis=RedisLimits(), node_cache_dir=folder / "node")
    with ValkeyServer.start(folder / "valkey") as valkey:
        clients = RedisClients.connect(valkey.url, cache.redis)
        hot = redis_blob_tier(clients, cache.key_prefix, cache.blob_ttl_s)
        objects = FsspecObjects(f"file://{store}")
        fetcher = AdapterFetcher(
            NodeCache(cache.node_cache_dir, cache.node_cache_bytes),
            [hot, objects],
            limits=FetchLimits.of(cache),
        )
        engine = VllmEngine(config)
        replica = Replica(engine, fetcher)
        try:
            info = await replica.start()
            layout = AdapterLayout.from_json(info.layout_json)
            stack = ColdStack(replica, engine, fetcher, hot, objects, layout)
            await stack.ttft_s(BASE, (1, 2, 3))
            yield stack
        finally:
            await replica.stop()
            await clients.close()


def engine_config(model: Path, rank: int) -> ReplicaConfig:
    """The engine of the cold-start and stall benchmarks: bf16, eager, slots for `rank`."""
    return replace(
        ReplicaConfig(str(model), dtype="bfloat16", max_model_len_tokens=1024),
        # More than are in use: who is resident stays so, and is known to.
        num_slots=256,
        max_num_seqs=48,
        max_rank=rank,
        kv_cache_bytes=512 << 20,
        enforce_eager=True,
    )
