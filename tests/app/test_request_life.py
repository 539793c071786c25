"""What observers hear: each request begins once and ends once, at the moment it ends."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from adapter_cache.store import MemoryStore
from app.ask import Ask
from app.dispatcher import LocalDispatcher
from app.request_life import RequestLife
from app.request_observer import RequestEnd
from app.token_stream import TokenStream
from app.window import Window
from contracts.access import Caller
from contracts.adapters import BASE, DEFAULT_TENANT, AdapterRef
from contracts.errors import DeadlineExceeded, ServingError
from contracts.generation import GenerateRequest, Sampling, TokenBatch, TokenDelta
from tests.app.parts import CountingReplica, publish


class Recorder:
    """Keeps all that it hears, by request."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.tokens: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.ends: dict[str, list[RequestEnd]] = defaultdict(list)

    def began(self, request_id: str, caller: Caller) -> None:
        self.begun.append(request_id)

    def generated(self, request_id: str, caller: Caller, num_tokens: int, gap_s: float) -> None:
        assert request_id not in self.ends
        self.tokens[request_id].append((num_tokens, gap_s))

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        assert request_id in self.begun
        self.ends[request_id].append(end)


class Deaf:
    """An observer with a fault."""

    def began(self, request_id: str, caller: Caller) -> None:
        raise RuntimeError("deaf")

    def generated(self, request_id: str, caller: Caller, num_tokens: int, gap_s: float) -> None:
        raise RuntimeError("deaf")

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        raise RuntimeError("deaf")


def make_ask(request_id: str, adapter: str | None = None, max_tokens: int = 3, n: int = 1) -> Ask:
    ref = AdapterRef(DEFAULT_TENANT, adapter) if adapter else None
    return Ask(request_id, "tiny", ref, (1, 2), Sampling(max_tokens, n=n))


@dataclass(frozen=True)
class Fate:
    adapter: str | None
    max_tokens: int
    n: int
    leaves_after: int | None
    expires: bool


FATES = st.builds(
    Fate,
    st.sampled_from([None, None, "a", "broken", "crash", "deaf", "missing"]),
    st.integers(1, 4),
    st.integers(1, 3),
    st.none() | st.integers(0, 3),
    st.booleans(),
)


async def follow(fate: Fate, stream: TokenStream) -> int:
    """Read as `fate` says; gives the tokens that were read."""
    num_tokens = 0
    for number in itertools.count():
        if number == fate.leaves_after:
            stream.expire(DeadlineExceeded("late")) if fate.expires else stream.close()
            break
        try:
            burst = await anext(stream, None)
        except ServingError:
            break
        if burst is None:
            break
        num_tokens += sum(len(delta.token_ids) for delta in burst)
    return num_tokens


async def run(fates: list[Fate], stop: bool) -> None:
    store, recorder, ticks = MemoryStore(), Recorder(), itertools.count()
    for name in ("a", "broken", "crash", "deaf"):
        await publish(store, name)
    window = Window(
        store,
        LocalDispatcher(CountingReplica()),
        store_timeout_s=5,
        observers=(Deaf(), recorder),
        clock=lambda: float(next(ticks)),
    )
    halves = fates[: len(fates) // 2], fates[len(fates) // 2 :]
    asks = [
        [make_ask(f"{half}-{i}", f.adapter, f.max_tokens, f.n) for i, f in enumerate(part)]
        for half, part in enumerate(halves)
    ]
    streams = [stream for part in asks for stream in window.open(part)]
    if stop:
        await window.aclose()
    counts = await asyncio.gather(*map(follow, fates, streams))
    while window.num_running:  # noqa: ASYNC110 (the loop is the clock)
        await asyncio.sleep(0)
    await window.aclose()
    flat = [ask for part in asks for ask in part]
    assert recorder.begun == [ask.request_id for ask in flat]
    assert {len(recorder.ends[ask.request_id]) for ask in flat} <= {1}
    for ask, fate, num_read in zip(flat, fates, counts, strict=True):
        [end] = recorder.ends[ask.request_id]
        heard = recorder.tokens[ask.request_id]
        assert end.num_generated_tokens == sum(tokens for tokens, _ in heard) >= num_read
        assert (end.ttft_s is None) == (not heard)
        assert end.num_prompt_tokens == 2
        assert sum(gap for _, gap in heard) <= end.duration_s
        if fate.leaves_after is None and fate.adapter in (None, "a") and not stop:
            crashed = {f.adapter for f in halves[ask.request_id[0] == "1"]} & {"crash", "deaf"}
            assert end.outcome == "length" or (crashed and end.outcome == "engine_failed")
        if end.outcome == "length":
            assert end.num_generated_tokens == fate.max_tokens * fate.n
            assert end.num_cached_tokens == 3


@settings(deadline=None, max_examples=60)
@given(st.lists(FATES, min_size=1, max_size=8), st.booleans())
def test_each_request_that_began_ends_once(fates: list[Fate], stop: bool) -> None:
    asyncio.run(run(fates, stop))


async def test_a_short_answer_ends_before_its_group() -> None:
    recorder = Recorder()
    replica = CountingReplica(step_s=0.01)
    window = Window(
        MemoryStore(), LocalDispatcher(replica), store_timeout_s=1, observers=(recorder,)
    )
    short, long = window.open([make_ask("short", max_tokens=1), make_ask("long", max_tokens=30)])
    assert [d.finish_reason async for burst in short for d in burst] == ["length"]
    assert [e.outcome for e in recorder.ends["short"]] == ["length"]
    assert ("long" in recorder.ends, window.num_running) == (False, 1)
    long.close()
    assert [e.outcome for e in recorder.ends["long"]] == ["closed"]
    assert window.num_running == 0
    await window.aclose()


def test_times_and_counts_are_those_of_the_clock() -> None:
    recorder = Recorder()
    stream = TokenStream("r", num_choices=2)
    life = RequestLife(make_ask("r", n=2), stream, (recorder,), 10.0)
    for choice, tokens in ((0, (1, 2)), (1, (3,))):
        life.push(TokenDelta(0, choice, tokens, num_cached_tokens=choice))
    life.step(10.5)
    life.push(TokenDelta(0, 0, (4,), finish_reason="stop"))
    life.push(TokenDelta(0, 1, (5,), finish_reason="length"))
    life.step(12.0)
    life.end(12.0)
    life.end(99.0)
    life.push(TokenDelta(0, 0, (6,)))
    life.step(99.0)
    assert recorder.tokens["r"] == [(3, 0.5), (2, 1.5)]
    assert recorder.ends["r"] == [
        RequestEnd("length", 2, 1, 5, ttft_s=0.5, duration_s=2.0, digest=BASE.digest)
    ]
    assert recorder.begun == ["r"]


class EnteringReplica(CountingReplica):
    """Says first that the engine has the requests."""

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        yield TokenBatch(tuple(TokenDelta(i, entered=True) for i in range(len(requests))))
        async for batch in super().generate(requests):
            yield batch


async def test_that_the_engine_has_it_is_no_news_for_a_client() -> None:
    recorder = Recorder()
    dispatcher = LocalDispatcher(EnteringReplica())
    window = Window(MemoryStore(), dispatcher, store_timeout_s=1, observers=(recorder,))
    (stream,) = window.open([make_ask("r", max_tokens=2)])
    deltas = [delta async for burst in stream for delta in burst]
    assert [(delta.token_ids, delta.entered) for delta in deltas] == [((0,), False), ((1,), False)]
    assert [count for count, _ in recorder.tokens["r"]] == [1, 1]
    await window.aclose()
