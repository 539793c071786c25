"""A real vLLM engine, adapters of every shape, and the oracle: transformers with W' for W."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.node_cache import NodeCache
from adapter_cache.store import MemoryStore
from contracts.adapters import BASE, DEFAULT_TENANT, AdapterKey
from contracts.generation import GenerateRequest, Sampling, TokenLogprob
from flora.adapter_config import AdapterLimits
from flora.codec import CompiledAdapter, compile_adapter, decompile
from flora.layout import AdapterLayout
from flora.linear import materialized
from flora.lora_layout import LoraLayout
from replicas.assembly import make_seats
from replicas.config import ReplicaConfig
from replicas.fair_gate import FairGate
from replicas.replica import Replica
from replicas.vllm_engine import VllmEngine
from tests.flora.adapters import make_files

KINDS = ("rank-1 tied", "rank-1 untied", "rank 4", "IA3-shaped", "base")


@dataclass(frozen=True)
class Answer:
    """What one request got: greedy tokens with the log-probability of each."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    num_cached_tokens: int


class Stack:
    """An engine with a cache in front of it, and the layout of its model."""

    def __init__(self, replica: Replica, engine: VllmEngine, store: MemoryStore) -> None:
        self.replica = replica
        self.engine = engine
        self.store = store
        self.layout: AdapterLayout
        self.lora_layout: LoraLayout | None = None
        self._count = 0

    async def publish(self, name: str, adapter: CompiledAdapter) -> AdapterKey:
        manifest = await self.store.publish(
            DEFAULT_TENANT,
            name,
            adapter.blob,
            digest=adapter.digest,
            base_fingerprint=self.layout.base_fingerprint,
            rank=adapter.rank,
            num_modules=adapter.num_modules,
            created_at_s=0.0,
        )
        return manifest.key

    async def ask(
        self, prompts: Sequence[Sequence[int]], keys: Sequence[AdapterKey], num_tokens: int
    ) -> list[Answer]:
        """All prompts in one group; greedy."""
        sampling = Sampling(num_tokens, temperature=0.0, logprobs=0, ignore_eos=True)
        self._count += 1
        requests = tuple(
            GenerateRequest(f"{self._count}-{i}", key, tuple(prompt), sampling)
            for i, (prompt, key) in enumerate(zip(prompts, keys, strict=True))
        )
        tokens: list[list[TokenLogprob]] = [[] for _ in requests]
        cached = [0] * len(requests)
        async for batch in self.replica.generate(requests):
            for delta in batch.deltas:
                if delta.error is not None:
                    raise delta.error
                tokens[delta.index] += delta.logprobs
                cached[delta.index] = delta.num_cached_tokens
        return [
            Answer(tuple(t.token_id for t in got), tuple(t.logprob for t in got), hits)
            for got, hits in zip(tokens, cached, strict=True)
        ]


@asynccontextmanager
async def running(config: ReplicaConfig, cache_dir: Path) -> AsyncIterator[Stack]:
    engine, store = VllmEngine(config), MemoryStore()
    fetcher = AdapterFetcher(NodeCache(cache_dir, 1 << 30), [store], limits=FetchLimits())
    gate, seats = FairGate(config.fair_limits), make_seats(config)
    stack = Stack(Replica(engine, fetcher, gate=gate, seats=seats), engine, store)
    try:
        info = await stack.replica.start()
        stack.layout = AdapterLayout.from_json(info.layout_json)
        if info.lora_layout_json:
            stack.lora_layout = LoraLayout(AdapterLayout.from_json(info.lora_layout_json))
        yield stack
    finally:
        await stack.replica.stop()


def make_config(model: Path, **changes: Any) -> ReplicaConfig:
    config = ReplicaConfig(
        str(model),
        dtype="float32",
        num_slots=32,
        max_num_seqs=32,
        max_model_len_tokens=128,
        kv_cache_bytes=256 << 20,
        enforce_eager=True,
    )
    return replace(config, **changes)


def make_adapter(layout: AdapterLayout, kind: str, seed: int, scale: float) -> CompiledAdapter:
    """A random adapter of a kind on every module: deviations of standard deviation `scale`."""
    rng = np.random.default_rng(seed)
    rank = 4 if kind == "rank 4" else 1
    tensors: dict[tuple[str, str], Any] = {}
    for group in layout.groups:
        shared = rng.normal(0, scale, (rank, group.in_features))
        for member in group.members:
            tensors[member.name, "A"] = rng.normal(0, scale, (rank, member.out_features))
            if kind in ("rank-1 untied", "rank 4"):
                tensors[member.name, "B"] = rng.normal(0, scale, (rank, group.in_features))
            elif kind == "rank-1 tied":
                tensors[member.name, "B"] = shared
    files = make_files(tensors, rank)
    return compile_adapter(layout, files, AdapterLimits())


async def make_keys(
    stack: Stack, count: int, scale: float
) -> tuple[list[AdapterKey], dict[AdapterKey, CompiledAdapter]]:
    """Every kind, over and over, two seeds each: a key a request, and the adapters behind them."""
    adapters: dict[AdapterKey, CompiledAdapter] = {}
    pool: list[AdapterKey] = []
    for seed in (0, 1):
        for kind in KINDS[:-1]:
            adapter = make_adapter(stack.layout, kind, seed, scale)
            key = await stack.publish(f"{kind}-{seed}".replace(" ", "-"), adapter)
            adapters[key] = adapter
            pool.append(key)
        pool.append(BASE)
    return [pool[i % len(pool)] for i in range(count)], adapters


class Oracle:
    """The same model in transformers, float32, with each adapter's W' materialised."""

    def __init__(self, model: Path, layout: AdapterLayout) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
        self._layout = layout

    def differences(
        self,
        adapter: CompiledAdapter | None,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Answer],
    ) -> tuple[torch.Tensor, int]:
        """How far each token's log-probability is off, and how many tokens are not the best."""
        model = self._model if adapter is None else self._adapted(adapter)
        apart, not_best = [], 0
        for prompt, answer in zip(prompts, answers, strict=True):
            ids = torch.tensor([[*prompt, *answer.token_ids]])
            with torch.inference_mode():
                logits = model(ids).logits[0, len(prompt) - 1 : -1].float()
            reference = torch.log_softmax(logits, -1)
            drawn = reference[torch.arange(len(answer.token_ids)), ids[0, len(prompt) :]]
            apart.append((drawn - torch.tensor(answer.logprobs)).abs())
            not_best += int((reference.argmax(-1) != ids[0, len(prompt) :]).sum())
        return torch.cat(apart), not_best

    def _adapted(self, adapter: CompiledAdapter) -> Any:
        return materialized(self._model, decompile(self._layout, adapter.blob))

    def compare(
        self,
        adapter: CompiledAdapter | None,
        prompts: Sequence[Sequence[int]],
        answers: Sequence[Answer],
    ) -> tuple[float, int]:
        """The largest difference, and how many tokens are not the best one."""
        apart, not_best = self.differences(adapter, prompts, answers)
        return float(apart.max()), not_best
