"""What a group hears through a shared stream is what it would hear through one of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.shared_stream import SharedStream
from contracts.adapters import BASE
from contracts.errors import EngineFailed, NotReady, ServingError
from contracts.generation import (
    GenerateRequest,
    Sampling,
    StepMessage,
    StepPart,
    StreamTicket,
    TokenDelta,
)
from replicas.echo_engine import EchoEngine
from tests.replicas.engines import Stack, turns

ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 6),
        st.lists(st.tuples(st.integers(1, 5), st.integers(1, 2)), min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=8,
)


def make_requests(number: int, sizes: list[tuple[int, int]]) -> tuple[GenerateRequest, ...]:
    """A request a pair of tokens and choices; its prompt tells it from all others."""
    return tuple(
        GenerateRequest(f"{number}-{i}", BASE, (number, 100 + i), Sampling(num_tokens, n=n))
        for i, (num_tokens, n) in enumerate(sizes)
    )


async def heard(stream: SharedStream, requests: tuple[GenerateRequest, ...]) -> list[TokenDelta]:
    inbox: asyncio.Queue[StepPart | ServingError] = asyncio.Queue()
    number = stream.begin("r", requests, inbox.put_nowait)
    deltas: list[TokenDelta] = []
    try:
        while True:
            part = await inbox.get()
            if isinstance(part, ServingError):
                raise part
            deltas += (delta for delta in part.deltas if not delta.entered)
            if part.is_last:
                return deltas
    finally:
        stream.end(number)


def by_choice(deltas: list[TokenDelta]) -> dict[tuple[int, int], str]:
    """The text of each choice of each request, and how it ended."""
    texts: dict[tuple[int, int], str] = {}
    for delta in deltas:
        place = (delta.index, delta.choice)
        texts[place] = texts.get(place, "") + delta.text + (delta.finish_reason or "")
    return texts


@settings(max_examples=50, deadline=None)
@given(ARRIVALS, st.integers(1, 3))
def test_every_group_hears_its_own(
    arrivals: list[tuple[int, list[tuple[int, int]]]], num_replicas: int
) -> None:
    asyncio.run(_every_group_hears_its_own(arrivals, num_replicas))


async def _every_group_hears_its_own(
    arrivals: list[tuple[int, list[tuple[int, int]]]], num_replicas: int
) -> None:
    stacks = [Stack(EchoEngine(), Path("/nonexistent")) for _ in range(num_replicas)]
    stack = stacks[0]
    messages: list[str] = []

    def share(
        _: str, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncIterator[StepMessage]:
        return stacks[ticket.number % num_replicas].replica.share(requests, ticket)

    stream = SharedStream(share, "d", on_message=lambda name, _: messages.append(name))
    groups = [make_requests(number, sizes) for number, (_, sizes) in enumerate(arrivals)]
    tasks = []
    for (num_turns, _), requests in zip(arrivals, groups, strict=True):
        await turns(num_turns)
        tasks.append(asyncio.create_task(heard(stream, requests)))
    for requests, deltas in zip(groups, await asyncio.gather(*tasks), strict=True):
        alone = [
            delta
            async for batch in stack.replica.generate(requests)
            for delta in batch.deltas
            if not delta.entered
        ]
        assert by_choice(deltas) == by_choice(alone)
    await turns()
    assert repr(stream) == "<SharedStream 0 groups in 0 calls>"
    assert len(messages) >= len(groups)


class Script:
    """A replica that says what a test wants; the first call is the stream that others join."""

    def __init__(self) -> None:
        self.news: asyncio.Queue[StepMessage | Exception | None] = asyncio.Queue()
        self.joining: dict[int, int] = {}

    async def share(
        self, replica_id: str, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncIterator[StepMessage]:
        assert replica_id == "r"
        if ticket.number in self.joining:
            yield StepMessage(joined=self.joining[ticket.number])
            return
        while (message := await self.news.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message


def step(*numbers: int, is_last: bool = False) -> StepMessage:
    return StepMessage(
        tuple(StepPart(n, (TokenDelta(0, token_ids=(n,)),), is_last) for n in numbers)
    )


@pytest.mark.parametrize(
    ("news", "error"),
    [
        (NotReady("gone"), NotReady),
        (RuntimeError("secret"), EngineFailed),
        (None, EngineFailed),
    ],
)
async def test_a_stream_that_breaks_breaks_all_whom_it_brought(
    news: Exception | None, error: type[Exception]
) -> None:
    script = Script()
    script.joining = {1: 0, 2: 0}
    stream = SharedStream(script.share, "d")
    tasks = [asyncio.create_task(heard(stream, make_requests(n, [(1, 1)]))) for n in range(3)]
    await turns()
    script.news.put_nowait(step(1, is_last=True))
    script.news.put_nowait(news)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], error)
    assert isinstance(results[2], error)
    assert "secret" not in str(results[0])
    assert results[1] == [TokenDelta(0, token_ids=(1,))]


async def test_who_joins_a_stream_that_has_gone_is_told() -> None:
    script = Script()
    script.joining = {0: 99}
    stream = SharedStream(script.share, "d")
    with pytest.raises(EngineFailed, match="without finishing"):
        await heard(stream, make_requests(0, [(1, 1)]))


async def test_tokens_may_come_before_the_answer_to_the_call() -> None:
    script, late = Script(), asyncio.Event()

    async def share(
        replica_id: str, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncIterator[StepMessage]:
        if ticket.number:
            await late.wait()
            yield StepMessage(joined=0)
            return
        async for message in script.share(replica_id, requests, ticket):
            yield message

    stream = SharedStream(share, "d")
    tasks = [asyncio.create_task(heard(stream, make_requests(n, [(1, 1)]))) for n in range(2)]
    await turns()
    script.news.put_nowait(step(0, 1))
    script.news.put_nowait(step(0, 1, is_last=True))
    script.news.put_nowait(None)
    assert [len(deltas) for deltas in await asyncio.gather(*tasks)] == [2, 2]
    late.set()
    await turns()
    assert repr(stream) == "<SharedStream 0 groups in 0 calls>"


async def test_a_reader_that_leaves_costs_the_others_nothing() -> None:
    script = Script()
    script.joining = {1: 0}
    stream = SharedStream(script.share, "d")
    tasks = [asyncio.create_task(heard(stream, make_requests(n, [(1, 1)]))) for n in range(2)]
    await turns()
    tasks[0].cancel()
    await turns()
    script.news.put_nowait(step(0, 1, is_last=True))
    script.news.put_nowait(None)
    assert await tasks[1] == [TokenDelta(0, token_ids=(1,))]
    await turns()
    assert repr(stream) == "<SharedStream 0 groups in 0 calls>"


async def test_the_end_leaves_no_call() -> None:
    script = Script()
    stream = SharedStream(script.share, "d")
    task = asyncio.create_task(heard(stream, make_requests(0, [(1, 1)])))
    await turns()
    await stream.aclose()
    with pytest.raises(EngineFailed):
        await task
    assert repr(stream) == "<SharedStream 0 groups in 0 calls>"
