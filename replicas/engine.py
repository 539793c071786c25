"""What a replica asks of an engine, and an engine without a model for everything but the model."""

import asyncio
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from contracts.errors import InvalidRequest
from contracts.generation import GenerateRequest, TokenDelta, TokenLogprob
from contracts.replica import ReplicaInfo
from flora.layout import AdapterLayout, Group, Member
from flora.row import read_header


class TokenSource(Protocol):
    """The tokens of one request as they come. `finished` is true once the last was drained."""

    finished: bool

    def drain(self, index: int) -> list[TokenDelta]:
        """What came since the last call, addressed to place `index` of a group; never waits.

        Raises ServingError when the request failed; it is finished then.
        """
        ...


class Engine(Protocol):
    """A running model that takes a different adapter with every request."""

    async def start(self) -> ReplicaInfo:
        """Load the model; what it can do. Raises EngineFailed."""
        ...

    async def submit(
        self, request: GenerateRequest, row: Path | None, wake: asyncio.Event
    ) -> TokenSource:
        """Queue a request with the row file of its adapter (None: the base model).

        `wake` is set whenever the source may have something to drain; sources may share one. The
        file must stay until the source is finished. Raises ServingError; others are not disturbed.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """Stop working on a request; unknown ids are ignored. Its source finishes with "abort"."""
        ...

    async def check(self) -> None:
        """Raises EngineFailed when the engine is beyond repair."""
        ...

    async def stop(self) -> None:
        """End the engine and its processes."""
        ...


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
        for step in range(sampling.max_tokens):
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


class EchoEngine:
    """Answers with the prompt's token ids as text, each followed by the start of its row's name.

    Deterministic, without a model: the working stand-in for tests of everything around an engine.
    It reads the row's header as a real engine does, so a bad file fails the request.
    """

    def __init__(self, *, step_s: float = 0.0, max_model_len_tokens: int = 2048) -> None:
        self._step_s = step_s
        self._max_model_len_tokens = max_model_len_tokens
        self._running: dict[str, tuple[EchoSource, asyncio.Task[None]]] = {}

    async def start(self) -> ReplicaInfo:
        layout = AdapterLayout(
            "echo", "bfloat16", 4, (Group("echo", 32, (Member("echo.linear", 32),)),)
        )
        return ReplicaInfo("echo", self._max_model_len_tokens, 50_000, 64, layout.to_json())

    async def submit(
        self, request: GenerateRequest, row: Path | None, wake: asyncio.Event
    ) -> EchoSource:
        if not request.prompt_token_ids or request.sampling.max_tokens < 1:
            raise InvalidRequest("A request has a prompt, and room for an answer.")
        if row is not None:
            read_header(await asyncio.to_thread(row.read_bytes))
        suffix = "" if row is None else f":{row.name[:8]}"
        source = EchoSource(request, suffix, wake)
        task = asyncio.create_task(source.run(self._step_s))
        self._running[request.request_id] = (source, task)
        task.add_done_callback(lambda _: self._running.pop(request.request_id, None))
        return source

    async def abort(self, request_id: str) -> None:
        if (running := self._running.pop(request_id, None)) is not None:
            source, task = running
            task.cancel()
            for choice in range(source.request.sampling.n):
                source.put(TokenDelta(0, choice, finish_reason="abort"))

    async def check(self) -> None:
        return None

    async def stop(self) -> None:
        for request_id in list(self._running):
            await self.abort(request_id)
