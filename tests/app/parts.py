"""A whole door in one process, for tests: real store, window and HTTP, an engine that counts."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import httpx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from adapter_cache.registry_guard import Guard
from adapter_cache.store import AdapterStore, MemoryStore
from app.access_log import AccessLog
from app.auth import Authoriser
from app.dispatcher import LocalDispatcher, Replica
from app.door import Door, DoorLimits
from app.door_metrics import DoorMetrics
from app.gather import Gather, GatherLimits, TimerBell, WindowTuning
from app.http_api import create_app
from app.own_adapters import OwnAdapters
from app.prefetch import Prefetcher
from app.prompts import Prompts
from app.quotas import Quotas
from app.recent_usage import MemoryPages, RecentUsage, UsagePages
from app.request_spans import RequestSpans
from app.served_model import ServedModel
from app.window import Resolver, Window
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterManifest, TenantId
from contracts.errors import EngineFailed
from contracts.generation import (
    GenerateRequest,
    StepMessage,
    StepPart,
    StreamTicket,
    TokenBatch,
    TokenDelta,
    TokenLogprob,
)
from contracts.replica import ReplicaInfo
from contracts.tracing import NO_TRACER, Tracer
from flora.adapter_files import read_adapter, write_adapter
from flora.codec import compile_adapter
from flora.layout import AdapterLayout
from tests.flora.adapters import LIMITS, make_adapter
from tests.flora.layouts import make_layout

BASE = "tiny"
MAX_LEN = 512
VOCAB = 258
NOW_S = 1_700_000_000.5
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
    "{{ raise_exception('system must come first') }}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and two special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=TEMPLATE)


class CountingReplica:
    """Says "<adapter><step> " at each step, behind what is resumed, to `max_tokens`; adapter
    "broken" fails its request, "crash" the whole group at its second step, "deaf" ends it without
    a finish; only "polite" finishes with "stop"."""

    def __init__(
        self,
        step_s: float = 0.0,
        layout: AdapterLayout | None = None,
        replica_id: str = "r0",
        lora_rank: int = 0,
    ) -> None:
        self.step_s = step_s
        self.layout = layout or make_layout()
        self.lora_json = replace(self.layout, max_rank=lora_rank).to_json() if lora_rank else ""
        self.replica_id = replica_id
        self.groups: list[tuple[GenerateRequest, ...]] = []
        self.cancelled: set[str] = set()
        self.prefetched: list[tuple[AdapterKey, ...]] = []
        self.ready = True

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        self.groups.append(requests)
        names = [r.adapter.name for r in requests]
        for step in range(max(r.sampling.max_tokens for r in requests)):
            await asyncio.sleep(self.step_s)
            if step and "crash" in names:
                raise RuntimeError("cuda is out of luck")
            if step and "deaf" in names:
                return
            yield TokenBatch(tuple(self._step(requests, step)))

    async def share(
        self, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncIterator[StepMessage]:
        async for batch in self.generate(requests):
            yield StepMessage((StepPart(ticket.number, batch.deltas),))
        yield StepMessage((StepPart(ticket.number, is_last=True),))

    def _step(self, requests: Sequence[GenerateRequest], step: int) -> list[TokenDelta]:
        deltas = []
        for index, request in enumerate(requests):
            at = step + len(request.resumed_token_ids)
            over = at >= request.sampling.max_tokens or request.request_id in self.cancelled
            if over:
                continue
            if request.adapter.name == "broken":
                deltas.append(TokenDelta(index, error=EngineFailed("no such luck")))
                continue
            choices = range(request.sampling.n)
            deltas.extend(_delta(index, choice, at, request) for choice in choices)
        return deltas

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        self.cancelled.update(request_ids)

    async def describe(self) -> ReplicaInfo:
        if not self.ready:
            await asyncio.sleep(3600)
        layout_json = self.layout.to_json()
        return ReplicaInfo(BASE, MAX_LEN, VOCAB, 8, layout_json, lora_layout_json=self.lora_json)

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        self.prefetched.append(keys)

    async def metrics(self) -> tuple[str, bytes]:
        if not self.ready:
            await asyncio.sleep(3600)
        return (
            self.replica_id,
            b"# HELP fetches_total Fetches.\n# TYPE fetches_total counter\nfetches_total 7\n",
        )


def _delta(index: int, choice: int, step: int, request: GenerateRequest) -> TokenDelta:
    sampling = request.sampling
    text = f"{request.adapter.name or 'base'}{step} "
    last = step + 1 == sampling.max_tokens
    finish = "stop" if request.adapter.name == "polite" else "length"
    prompt: tuple[TokenLogprob | None, ...] = ()
    if step == 0 and choice == 0 and sampling.prompt_logprobs is not None:
        rest = request.prompt_token_ids[1:]
        prompt = (None, *(TokenLogprob(i, chr(i), -0.5) for i in rest))
    return TokenDelta(
        index,
        choice,
        token_ids=(step,),
        text=text,
        logprobs=() if sampling.logprobs is None else (_logprob(step, text, sampling.logprobs),),
        finish_reason=finish if last else None,
        num_cached_tokens=3 if step == 0 else 0,
        prompt_logprobs=prompt,
    )


def _logprob(token_id: int, text: str, num_top: int) -> TokenLogprob:
    top = tuple(
        (token_id + i, text if i == 0 else f"alt{i}", -0.25 * (i + 1)) for i in range(num_top)
    )
    return TokenLogprob(token_id, text, -0.25, top)


@dataclass
class SharedParts:
    """What the models of a test's door have in common."""

    metrics: DoorMetrics
    access: AccessLog
    spans: RequestSpans
    guard: Guard | None
    quotas: Quotas | None
    bases: dict[str, str] = field(default_factory=dict)


def make_model(
    name: str,
    replica: Replica,
    store: Resolver,
    shared: SharedParts,
    *,
    wait_s: float = 0.0,
    gather_limits: GatherLimits | None = None,
    ready_timeout_s: float = 0.2,
    metrics_timeout_s: float = 0.5,
) -> ServedModel:
    dispatcher = LocalDispatcher(replica)
    prefetcher = Prefetcher(dispatcher)
    window = Window(
        store,
        dispatcher,
        store_timeout_s=0.2,
        guard=shared.guard,
        prefetcher=prefetcher,
        metrics=shared.metrics,
        observers=(shared.access, shared.spans),
        quotas=shared.quotas,
        spans=shared.spans,
    )
    return ServedModel(
        name,
        dispatcher=dispatcher,
        prompts=Prompts(make_tokenizer()),
        gather=Gather(window, TimerBell(), WindowTuning(32, wait_s), limits=gather_limits),
        bases=shared.bases,
        prefetcher=prefetcher,
        ready_timeout_s=ready_timeout_s,
        metrics_timeout_s=metrics_timeout_s,
    )


def make_door(
    replica: Replica | None = None,
    store: AdapterStore | None = None,
    limits: DoorLimits | None = None,
    wait_s: float = 0.0,
    gather_limits: GatherLimits | None = None,
    quotas: Quotas | None = None,
    guard: Guard | None = None,
    auth: Authoriser | None = None,
    tracer: Tracer = NO_TRACER,
    more: Mapping[str, Replica] = MappingProxyType({}),
    usage: UsagePages | None = None,
    **timeouts: float,
) -> Door:
    """`replica` runs the model BASE; `more` are further models by name."""
    store = store or MemoryStore()
    metrics = DoorMetrics()
    access = AccessLog(metrics.registry, tracer)
    shared = SharedParts(metrics, access, RequestSpans(tracer), guard, quotas)
    replicas = {BASE: replica or CountingReplica(), **more}
    ids = itertools.count()
    return Door(
        models=[
            make_model(
                name,
                each,
                OwnAdapters(store, name, shared.bases) if more else store,
                shared,
                wait_s=wait_s,
                gather_limits=gather_limits,
                **timeouts,
            )
            for name, each in replicas.items()
        ],
        store=store,
        limits=limits or DoorLimits(),
        metrics=metrics,
        clock=lambda: NOW_S,
        new_id=lambda: f"id{next(ids)}",
        guard=guard,
        auth=auth,
        access=access,
        usage=RecentUsage(usage or MemoryPages(), lambda: NOW_S),
    )


async def publish(
    store: AdapterStore,
    name: str,
    tenant: TenantId = DEFAULT_TENANT,
    seed: int = 0,
    layout: AdapterLayout | None = None,
) -> AdapterManifest:
    """A test adapter under `name`; another `seed` gives other bytes."""
    layout = layout or make_layout()
    weights, config = write_adapter(make_adapter(layout, seed=seed), "float32")
    made = compile_adapter(layout, read_adapter(weights, config, LIMITS), LIMITS)
    return await store.publish(
        tenant,
        name,
        made.blob,
        digest=made.digest,
        base_fingerprint=layout.base_fingerprint,
        rank=made.rank,
        num_modules=made.num_modules,
        created_at_s=5.0,
    )


def make_client(door: Door) -> httpx.AsyncClient:
    """Straight into the application, without a socket."""
    transport = httpx.ASGITransport(create_app(door), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://door", timeout=20)
