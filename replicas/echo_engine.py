"""An engine without a model: the working stand-in for everything around an engine."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from itertools import count
from pathlib import Path

from contracts.adapters import Digest
from contracts.errors import InvalidRequest
from contracts.generation import GenerateRequest, TokenDelta, TokenLogprob
from contracts.replica import ReplicaInfo, SlotReport
from flora.layout import AdapterLayout, Group, Member
from flora.lora_row import LoraHeader, is_lora
from flora.row import RowHeader

_NUM_SLOTS = 64


@dataclass
class EchoSource:
    """A prompt's own tokens, one a step."""

    request: GenerateRequest
    suffix: str
    wake: asyncio.Event
    finished: bool = False
    _ready: list[TokenDelta] = field(default_factory=list)

    def drain(self, index: int) -> list[TokenDelta]:
        ready, self._ready = self._ready, []
        self.finished = self.finished or any(delta.finish_reason for delta in ready)
        return [replace(delta, index=index) for delta in ready]

    def put(self, delta: TokenDelta) -> None:
        self._ready.append(delta)
        self.wake.set()

    async def run(self, step_s: float) -> None:
        """Every step gives each choice its next token, until max_tokens."""
        prompt, sampling = self.request.prompt_token_ids, self.request.sampling
        num_resumed = len(self.request.resumed_token_ids)
        if num_resumed >= sampling.max_tokens:
            self.put(TokenDelta(0, finish_reason="length"))
        for step in range(num_resumed, sampling.max_tokens):
            await asyncio.sleep(step_s)
            token = prompt[step % len(prompt)]
            is_last = step + 1 == sampling.max_tokens
            for choice in range(sampling.n):
                self.put(self._delta(choice, token, "length" if is_last else None))

    def _delta(self, choice: int, token: int, finish_reason: str | None) -> TokenDelta:
        text = f"{token}{self.suffix} "
        logprobs: tuple[TokenLogprob, ...] = ()
        if (count := self.request.sampling.logprobs) is not None:
            logprobs = (TokenLogprob(token, text, 0.0, ((token, text, 0.0),) * min(count, 1)),)
        return TokenDelta(0, choice, (token,), text, logprobs, finish_reason)


class EchoBatch:
    """The sequences that run at a time; who finds no room waits, the lowest priority first."""

    def __init__(self, max_num_seqs: int) -> None:
        self._max_num_seqs = max_num_seqs
        self._num_seqs = 0
        self._order = count()
        self._waiting: list[tuple[int, int, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def place(self, num_seqs: int, priority: int) -> AsyncIterator[None]:
        """Room for `num_seqs` sequences until the block ends."""
        num_seqs = min(num_seqs, self._max_num_seqs)
        turn = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (priority, next(self._order), num_seqs, turn))
        self._start()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self._num_seqs -= num_seqs
            self._start()

    def _start(self) -> None:
        while self._waiting:
            _, _, num_seqs, turn = self._waiting[0]
            if not turn.done():
                if self._num_seqs + num_seqs > self._max_num_seqs:
                    return
                self._num_seqs += num_seqs
                turn.set_result(None)
            heappop(self._waiting)


class EchoEngine:
    """Answers with the prompt's token ids as text, each followed by the start of its row's name.

    Deterministic. It reads the row's header as a real engine does, so a bad file fails the request,
    and counts slots as one does: the adapters used last have one. `max_num_seqs` sequences run at
    a time, the others wait by priority. `base` is the fingerprint of the model that it stands for.
    With a `lora_rank` it takes LoRA adapters, too; their slots are not counted.
    """

    def __init__(
        self,
        *,
        step_s: float = 0.0,
        max_model_len_tokens: int = 2048,
        max_num_seqs: int = 256,
        base: str = "echo",
        lora_rank: int = 0,
    ) -> None:
        self._lora_rank = lora_rank
        self._step_s = step_s
        self._batch = EchoBatch(max_num_seqs)
        self._max_model_len_tokens = max_model_len_tokens
        self._base = base
        self._running: dict[str, tuple[EchoSource, asyncio.Task[None]]] = {}
        self._slots: OrderedDict[Digest, None] = OrderedDict()  # most recently used last
        self._hits = self._misses = self._evictions = 0

    async def start(self) -> ReplicaInfo:
        layout = AdapterLayout(
            self._base, "bfloat16", 4, (Group("echo", 32, (Member("echo.linear", 32),)),)
        )
        lora = replace(layout, max_rank=self._lora_rank).to_json() if self._lora_rank else ""
        max_tokens = self._max_model_len_tokens
        layout_json = layout.to_json()
        return ReplicaInfo(
            "echo", max_tokens, 50_000, _NUM_SLOTS, layout_json, lora_layout_json=lora
        )

    async def submit(
        self,
        request: GenerateRequest,
        row: Path | None,
        wake: asyncio.Event,
        priority: int = 0,
    ) -> EchoSource:
        if not request.prompt_token_ids or request.sampling.max_tokens < 1:
            raise InvalidRequest("A request has a prompt, and room for an answer.")
        if row is not None:
            header = LoraHeader if self._lora_rank and is_lora(row) else RowHeader
            header.read(await asyncio.to_thread(row.read_bytes))
            self._use_slot(request.adapter.digest)
        suffix = "" if row is None else f":{row.name[:8]}"
        source = EchoSource(request, suffix, wake)
        task = asyncio.create_task(self._run(source, priority))
        self._running[request.request_id] = (source, task)
        task.add_done_callback(lambda _: self._running.pop(request.request_id, None))
        return source

    async def abort(self, request_id: str) -> None:
        if (running := self._running.pop(request_id, None)) is not None:
            source, task = running
            task.cancel()
            for choice in range(source.request.sampling.n):
                source.put(TokenDelta(0, choice, finish_reason="abort"))

    async def release(self, digest: Digest) -> bool:
        if digest not in self._slots or digest in self._used():
            return False
        del self._slots[digest]
        return True

    async def slots(self) -> SlotReport:
        used = len(self._slots)
        return SlotReport(_NUM_SLOTS, used, self._hits, self._misses, self._evictions)

    async def check(self) -> None:
        return None

    async def stop(self) -> None:
        for request_id in list(self._running):
            await self.abort(request_id)

    async def _run(self, source: EchoSource, priority: int) -> None:
        async with self._batch.place(source.request.sampling.n, priority):
            await source.run(self._step_s)

    def _used(self) -> set[Digest]:
        return {source.request.adapter.digest for source, _ in self._running.values()}

    def _use_slot(self, digest: Digest) -> None:
        if digest in self._slots:
            self._hits += 1
        else:
            self._misses += 1
        self._slots[digest] = None
        self._slots.move_to_end(digest)
        idle = (digest for digest in list(self._slots) if digest not in self._used())
        while len(self._slots) > _NUM_SLOTS and (victim := next(idle, None)) is not None:
            del self._slots[victim]
            self._evictions += 1
