"""Tenants with an adapter each who ask one replica over a real engine, for benchmarks."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np

from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.node_cache import NodeCache
from adapter_cache.store import MemoryStore
from benchmarks.cold_stack import random_row
from contracts.adapters import AdapterKey, Digest, TenantId
from contracts.errors import Overloaded
from contracts.generation import GenerateRequest, Sampling
from flora.layout import AdapterLayout
from replicas.config import ReplicaConfig
from replicas.fair_gate import FairGate
from replicas.replica import Replica
from replicas.vllm_engine import VllmEngine


@dataclass
class Tally:
    """What a phase saw."""

    ttft_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    tokens: Counter[str] = field(default_factory=Counter)
    num_refused: int = 0


class Tenants:
    """Sends requests of tenants with an adapter each, and times their first tokens."""

    def __init__(
        self, engine: VllmEngine, fetcher: AdapterFetcher, prompt_tokens: int, answer_tokens: int
    ) -> None:
        self._engine = engine
        self._fetcher = fetcher
        self._num_prompt_tokens = prompt_tokens
        self._num_answer_tokens = answer_tokens
        self._ids = count()
        self.keys: dict[str, AdapterKey] = {}
        self.replica: Replica
        self.tally = Tally()
        self._rng = np.random.default_rng(0)

    def begin(self, gate: FairGate) -> Tally:
        """A fresh phase: another gate over the same engine, nothing counted yet."""
        self.replica = Replica(self._engine, self._fetcher, gate=gate)
        self.tally = Tally()
        return self.tally

    async def ask(self, tenant: str, weight: float = 1.0) -> None:
        """One request. A refused one is counted; one that is cut off has waited until then."""
        tally, started_s, is_first = self.tally, perf_counter(), True
        prompt = tuple(self._rng.integers(1000, 40_000, self._num_prompt_tokens).tolist())
        sampling = Sampling(self._num_answer_tokens, temperature=0.0, ignore_eos=True)
        request = GenerateRequest(
            f"r{next(self._ids)}", self.keys[tenant], prompt, sampling, TenantId(tenant), weight
        )
        try:
            async for batch in self.replica.generate((request,)):
                for delta in batch.deltas:
                    if delta.error is not None:
                        raise delta.error
                    if is_first and delta.token_ids:
                        tally.ttft_s[tenant].append(perf_counter() - started_s)
                        is_first = False
                    tally.tokens[tenant] += len(delta.token_ids)
        except Overloaded:
            tally.num_refused += 1
        except asyncio.CancelledError:
            if is_first:
                tally.ttft_s[tenant].append(perf_counter() - started_s)
            raise

    async def keep_asking(self, tenant: str, num_waiting: int, weight: float = 1.0) -> None:
        """Always `num_waiting` requests at a time, until cancelled."""

        async def again() -> None:
            while True:
                await self.ask(tenant, weight)

        await asyncio.gather(*(again() for _ in range(num_waiting)))

    async def follow(self, tenant: str, times_s: Iterable[float]) -> None:
        """A request at each of `times_s`, whatever became of the ones before."""
        began_s = perf_counter()
        async with asyncio.TaskGroup() as group:
            for time_s in times_s:
                await asyncio.sleep(max(0.0, began_s + time_s - perf_counter()))
                group.create_task(self.ask(tenant))


@asynccontextmanager
async def running(
    config: ReplicaConfig, folder: Path, names: Sequence[str], *, prompt: int, answer: int
) -> AsyncIterator[Tenants]:
    """An engine, and an adapter for each of the tenants `names`. All requests have those sizes."""
    engine, store = VllmEngine(config), MemoryStore()
    fetcher = AdapterFetcher(NodeCache(folder, 1 << 30), [store], limits=FetchLimits())
    replica = Replica(engine, fetcher)
    try:
        layout = AdapterLayout.from_json((await replica.start()).layout_json)
        tenants = Tenants(engine, fetcher, prompt, answer)
        for number, name in enumerate(names):
            blob = random_row(layout, 1, number)
            digest = Digest(sha256(blob).hexdigest())
            await store.put(digest, blob)
            tenants.keys[name] = AdapterKey(TenantId(name), "own", 1, digest, len(blob))
        yield tenants
    finally:
        await replica.stop()
