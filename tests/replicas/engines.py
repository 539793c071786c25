"""A replica in one process, over an engine that steps when a test says so, and a slow store."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.node_cache import NodeCache
from adapter_cache.store import MemoryStore
from contracts.adapters import AdapterKey, Digest
from contracts.errors import ServingError
from contracts.generation import GenerateRequest, Sampling, TokenBatch, TokenDelta
from replicas.companion import Companion
from replicas.echo_engine import EchoEngine, EchoSource
from replicas.engine import Engine
from replicas.lora_seats import LoraSeats
from replicas.replica import Replica
from tests.adapter_cache.adapters import make_key, publish
from tests.replicas.rows import make_row, small_layout

LAYOUT = small_layout()
Batches = asyncio.Queue[TokenBatch | None]


class SlowStore(MemoryStore):
    """Bytes named in `held` come when their event is set."""

    def __init__(self) -> None:
        super().__init__()
        self.held: defaultdict[Digest, asyncio.Event] = defaultdict(asyncio.Event)

    async def get(self, digest: Digest) -> bytes | None:
        if digest in self.held:
            await self.held[digest].wait()
        return await super().get(digest)


class FailingSource(EchoSource):
    """With a `failure`, its request breaks in the engine as soon as somebody looks."""

    failure: ServingError | None = None

    def drain(self, index: int) -> list[TokenDelta]:
        if self.failure is None:
            return super().drain(index)
        self.finished = True
        raise self.failure


class SteppedEngine(EchoEngine):
    """Every `step` gives each running request one token. Faults are set by request id."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, FailingSource] = {}
        self.submitted: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.aborted: list[str] = []
        self.refusals: dict[str, Exception] = {}
        self.stuck: set[str] = set()
        self.abort_failure: ServingError | None = None
        self.released: list[Digest] = []

    async def submit(
        self,
        request: GenerateRequest,
        row: Path | None,
        wake: asyncio.Event,
        priority: int = 0,
    ) -> EchoSource:
        if request.request_id in self.refusals:
            raise self.refusals[request.request_id]
        source = self.sources[request.request_id] = FailingSource(request, "", wake)
        self.submitted[request.request_id].set()
        if request.request_id in self.stuck:
            await asyncio.Event().wait()
        return source

    async def abort(self, request_id: str) -> None:
        if self.abort_failure is not None:
            raise self.abort_failure
        self.aborted.append(request_id)
        if (source := self.sources.pop(request_id, None)) is not None:
            source.put(TokenDelta(0, finish_reason="abort"))

    async def release(self, digest: Digest) -> bool:
        if digest in {source.request.adapter.digest for source in self.sources.values()}:
            return False
        self.released.append(digest)
        return True

    def step(self, token: int, finish_reason: str | None = None) -> None:
        for source in self.sources.values():
            source.put(TokenDelta(0, token_ids=(token,), finish_reason=finish_reason))
        if finish_reason is not None:
            self.sources.clear()


@dataclass
class Stack:
    """A replica and everything below it."""

    engine: Engine
    directory: Path
    max_bytes: int = 1 << 20
    deadline_s: float = 10.0
    store: SlowStore = field(default_factory=SlowStore)
    companions: list[Companion] = field(default_factory=list)
    seats: LoraSeats | None = None
    reading: "set[asyncio.Task[None]]" = field(default_factory=set)

    def __post_init__(self) -> None:
        self.cache = NodeCache(self.directory, self.max_bytes)
        limits = FetchLimits(deadline_s=self.deadline_s)
        self.fetcher = AdapterFetcher(self.cache, [self.store], limits=limits)
        self.replica = Replica(self.engine, self.fetcher, self.companions, seats=self.seats)

    async def publish(self, name: str, blob: bytes | None = None, seed: int = 0) -> AdapterKey:
        row = make_row(LAYOUT, (0, 0), seed) if blob is None else blob
        return (await publish(self.store, name, row)).key

    async def read(self, requests: tuple[GenerateRequest, ...]) -> Batches:
        """Read a group's answers in a task of its own; None comes last."""
        batches: Batches = asyncio.Queue()

        async def read() -> None:
            async for batch in answer_steps(self.replica, requests):
                batches.put_nowait(batch)
            batches.put_nowait(None)

        self.reading.add(task := asyncio.create_task(read()))
        task.add_done_callback(self.reading.discard)
        await turns()
        return batches

    async def close(self) -> None:
        """Nothing may be left running: not before the end, and not after it."""
        await turns()
        self.assert_quiet()
        await self.replica.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def assert_quiet(self) -> None:
        """No file is held, and nothing runs but the caller and fetches, which belong to nobody."""
        assert "0 pinned" in repr(self.cache)
        self.cache.check_integrity(read_blobs=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if not task.get_name().startswith("fetch ")]


def lost_key(name: str = "lost") -> AdapterKey:
    """A key whose bytes no store has."""
    return make_key(make_row(LAYOUT, (0, 0), seed=999), name)


def make_group(
    *keys: AdapterKey, max_tokens: int = 3, n: int = 1, first_id: int = 0
) -> tuple[GenerateRequest, ...]:
    """A request a key; ids "0", "1", ..."""
    sampling = Sampling(max_tokens, n=n)
    return tuple(
        GenerateRequest(str(i), key, (7, 8), sampling) for i, key in enumerate(keys, first_id)
    )


async def turns(count: int = 10) -> None:
    """Let everybody do what they can."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what others do, threads among them."""
    for _ in range(10_000):
        if is_so():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never became so")


def answers(deltas: Sequence[TokenDelta]) -> tuple[TokenDelta, ...]:
    """Without the news that a request has entered the engine."""
    return tuple(delta for delta in deltas if not delta.entered)


async def answer_steps(
    replica: Replica, requests: tuple[GenerateRequest, ...]
) -> AsyncGenerator[TokenBatch]:
    """A group's steps that bring answers."""
    async for batch in replica.generate(requests):
        if deltas := answers(batch.deltas):
            yield TokenBatch(deltas)


async def collect(
    replica: Replica, requests: tuple[GenerateRequest, ...]
) -> dict[int, list[TokenDelta]]:
    """All answers of a group, by request."""
    found: dict[int, list[TokenDelta]] = {index: [] for index in range(len(requests))}
    async for batch in replica.generate(requests):
        assert batch.deltas
        for delta in answers(batch.deltas):
            found[delta.index].append(delta)
    return found


def text_of(deltas: list[TokenDelta]) -> str:
    """The answer of a request that went well."""
    assert [delta.error for delta in deltas] == [None] * len(deltas)
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["length"]
    return "".join(delta.text for delta in deltas)
