"""A whole door in one process, for tests: real store, window and HTTP, an engine that counts."""

import asyncio
import itertools
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import httpx
import uvicorn
from fastapi import FastAPI
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
from app.prefetch import Prefetcher
from app.prompts import Prompts
from app.quotas import Quotas
from app.request_spans import RequestSpans
from app.window import Window
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
from tests.flora.adapters import LIMITS, make_adapter
from tests.flora.layouts import make_layout

BASE = "tiny"
MAX_LEN = 512
VOCAB = 258
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
    """Says "<adapter><step> " at each step, to `max_tokens`; adapter "broken" fails its request,
    "crash" the whole group at its second step, "deaf" ends it without a finish; only "polite"
    finishes with "stop"."""

    def __init__(self, step_s: float = 0.0) -> None:
        self.step_s = step_s
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
            over = step >= request.sampling.max_tokens or request.request_id in self.cancelled
            if over:
                continue
            if request.adapter.name == "broken":
                deltas.append(TokenDelta(index, error=EngineFailed("no such luck")))
                continue
            choices = range(request.sampling.n)
            deltas.extend(_delta(index, choice, step, request) for choice in choices)
        return deltas

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        self.cancelled.update(request_ids)

    async def describe(self) -> ReplicaInfo:
        if not self.ready:
            await asyncio.sleep(3600)
        return ReplicaInfo(BASE, MAX_LEN, VOCAB, 8, make_layout().to_json())

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        self.prefetched.append(keys)

    async def metrics(self) -> tuple[str, bytes]:
        if not self.ready:
            await asyncio.sleep(3600)
        return (
            "r0",
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
) -> Door:
    store = store or MemoryStore()
    dispatcher = LocalDispatcher(replica or CountingReplica())
    prefetcher = Prefetcher(dispatcher)
    metrics = DoorMetrics()
    access = AccessLog(metrics.registry, tracer)
    spans = RequestSpans(tracer)
    window = Window(
        store,
        dispatcher,
        store_timeout_s=0.2,
        guard=guard,
        prefetcher=prefetcher,
        metrics=metrics,
        observers=(access, spans),
        quotas=quotas,
        spans=spans,
    )
    ids = itertools.count()
    return Door(
        base_model=BASE,
        store=store,
        dispatcher=dispatcher,
        prompts=Prompts(make_tokenizer()),
        gather=Gather(window, TimerBell(), WindowTuning(32, wait_s), limits=gather_limits),
        limits=limits or DoorLimits(ready_timeout_s=0.2),
        metrics=metrics,
        clock=lambda: 1_700_000_000.5,
        new_id=lambda: f"id{next(ids)}",
        guard=guard,
        prefetcher=prefetcher,
        auth=auth,
        access=access,
    )


async def publish(
    store: AdapterStore, name: str, tenant: TenantId = DEFAULT_TENANT, seed: int = 0
) -> AdapterManifest:
    """A test adapter under `name`; another `seed` gives other bytes."""
    layout = make_layout()
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


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[str]:
    """`app` behind a real port; gives its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    running = asyncio.ensure_future(server.serve(sockets=[listener]))
    try:
        while not server.started:  # noqa: ASYNC110 (uvicorn has no event to wait for)
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
        listener.close()


@contextmanager
def serving_in_a_thread() -> Iterator[str]:
    """A fresh door behind a real port, for tests that block; gives its address."""
    addresses: list[str] = []
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        async with serving(create_app(make_door())) as address:
            addresses.append(address)
            started.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert started.wait(20)
        yield addresses[0]
    finally:
        stop.set()
        thread.join()
