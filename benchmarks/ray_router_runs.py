"""The runs of `flora bench routers`: every load over fresh replicas of every router."""

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve.handle import DeploymentHandle
from rich.console import Console

from adapter_cache.config import CacheConfig
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_streamed_blobs import redis_blob_tier
from adapter_cache.valkey_server import ValkeyServer
from benchmarks.arrivals import (
    HOT_SHARE,
    MEAN_ANSWER,
    MEAN_PROMPT,
    Arrival,
    adapters_without_end,
    azure_arrivals,
    zipf_arrivals,
)
from benchmarks.cold_stack import random_row
from benchmarks.ray_fleet import NODE_ROWS, FleetPlan, ask_counts, fleet, local_serve
from benchmarks.ray_sides import make_side, router_of
from benchmarks.router_load import Load, Tally, shares_of, times_of
from benchmarks.soak import layout_of
from contracts.adapters import DEFAULT_TENANT, AdapterKey, Digest
from flora.layout import AdapterLayout
from replicas.config import ReplicaConfig

SEED = 0
LOAD = 0.6
MAX_NUM_SEQS = 8
NUM_SLOTS = 16
LOADS = ("zipf", "azure")

Samples = dict[str, list[float]]
console = Console(stderr=True)


class SideRun:
    """All loads for one router's fleet. `tokens_per_s` is what it did when it was full."""

    def __init__(
        self,
        args: argparse.Namespace,
        name: str,
        handle: "DeploymentHandle[Any]",
        keys: Sequence[AdapterKey],
        samples: Samples,
    ) -> None:
        self._args = args
        self._name = name
        self._handle = handle
        self._samples = samples
        self._side = make_side(name, handle)
        self._load = Load(self._side, keys, np.random.default_rng(SEED))
        self.tokens_per_s = 0.0

    async def run(self, wanted_tokens_per_s: float) -> None:
        """Everything, `rounds` times; the open loads ask for so many tokens, 0: for its own."""
        await self._load.follow([Arrival(0.0, adapter) for adapter in range(NUM_SLOTS)])
        try:
            for number in range(self._args.rounds):
                await self._full(number)
                wanted = wanted_tokens_per_s or LOAD * self.tokens_per_s
                for load in LOADS:
                    warm = self._arrivals(load, self._args.seconds / 4, wanted, 2 * number + 1)
                    asked = self._arrivals(load, self._args.seconds, wanted, 2 * number)
                    await self._load.follow(warm)
                    await self._open(load, asked)
        finally:
            await self._side.aclose()

    async def _full(self, number: int) -> None:
        speeds = {}
        for kind, share in (("uniform", 0.0), ("hot", HOT_SHARE)):
            adapters = adapters_without_end(
                self._args.adapters, share, np.random.default_rng((SEED, number))
            )
            num_clients = 2 * MAX_NUM_SEQS * self._args.replicas
            self._load.tally = Tally()
            before = await ask_counts(self._handle)
            seconds = self._args.seconds / 2
            speeds[kind] = await self._load.saturate(adapters, num_clients, seconds / 4, seconds)
            shares = shares_of(before, await ask_counts(self._handle))
            self._note(kind, {"tokens_per_s": speeds[kind]} | shares)
        self.tokens_per_s = speeds["uniform"] * (MEAN_PROMPT + MEAN_ANSWER) / MEAN_ANSWER
        self._samples[f"{self._name}_hot_share_throughput"].append(
            speeds["hot"] / speeds["uniform"]
        )

    async def _open(self, load: str, arrivals: Sequence[Arrival]) -> None:
        before = await ask_counts(self._handle)
        tally = self._load.tally = Tally()
        took_s = await self._load.follow(arrivals)
        shares = shares_of(before, await ask_counts(self._handle))
        speed = {"tokens_per_s": tally.num_tokens / took_s, "failed": float(tally.num_failed)}
        self._note(load, shares | times_of(tally) | speed)

    def _arrivals(self, load: str, seconds: float, wanted: float, seed: int) -> list[Arrival]:
        rng, num_adapters = np.random.default_rng((SEED, seed)), self._args.adapters
        if load == "zipf":
            return zipf_arrivals(seconds, wanted, num_adapters, rng)
        return azure_arrivals(self._args.data, seconds, wanted, num_adapters, rng)

    def _note(self, load: str, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._samples[f"{load}_{self._name}_{name}"].append(value)
        console.print(load, self._name, {name: f"{value:.3g}" for name, value in metrics.items()})


def measure(args: argparse.Namespace, folder: Path) -> Samples:
    """One router after the other: each keeps the machine busy."""
    samples: Samples = defaultdict(list)
    layout = asyncio.run(layout_of(args))
    wanted = args.tokens_per_s
    with ValkeyServer.start(folder / "valkey") as valkey, local_serve(args.replicas + 1):
        keys = asyncio.run(publish(valkey.url, layout, args.adapters))
        cache = CacheConfig(
            redis_url=valkey.url,
            object_store_url=f"file://{folder / 'objects'}",
            node_cache_dir=folder / "node",
            node_cache_bytes=NODE_ROWS * max(key.size_bytes for key in keys),
            follow_changes=False,
            warm_adapters=0,
        )
        for name in args.routers:
            is_multiplexed = name == "multiplex"
            plan = FleetPlan(
                name, args.replicas, replica_config(args), cache, router_of(name), is_multiplexed
            )
            with fleet(plan) as handle:
                wanted = asyncio.run(measure_side(args, name, handle, keys, wanted, samples))
    return samples


async def measure_side(
    args: argparse.Namespace,
    name: str,
    handle: "DeploymentHandle[Any]",
    keys: Sequence[AdapterKey],
    wanted: float,
    samples: Samples,
) -> float:
    """Tokens per second that the next side is to be asked for: what this one was."""
    side = SideRun(args, name, handle, keys, samples)
    await side.run(wanted)
    return wanted or LOAD * side.tokens_per_s


async def publish(redis_url: str, layout: AdapterLayout, num: int) -> list[AdapterKey]:
    """Made-up adapters in Redis, the same in every run."""
    clients = RedisClients.connect(redis_url)
    cache = CacheConfig()
    blobs = redis_blob_tier(clients, cache.key_prefix, cache.blob_ttl_s)
    keys = []
    try:
        for number in range(num):
            blob = random_row(layout, 1, number)
            digest = Digest(sha256(blob).hexdigest())
            await blobs.put(digest, blob)
            keys.append(AdapterKey(DEFAULT_TENANT, f"made-{number}", 1, digest, len(blob)))
    finally:
        await clients.close()
    return keys


def replica_config(args: argparse.Namespace) -> ReplicaConfig:
    """One of several engines on this machine: one thread, few slots."""
    return ReplicaConfig(
        str(args.model.resolve()),
        engine=args.engine,
        dtype="bfloat16",
        num_slots=NUM_SLOTS,
        max_num_seqs=MAX_NUM_SEQS,
        reserved_seqs=0,
        max_model_len_tokens=512,
        kv_cache_bytes=256 << 20,
        num_threads=1,
        enforce_eager=True,
        echo_step_s=0.01,
    )
