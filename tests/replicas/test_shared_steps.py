"""Groups of one door come through the stream of the first of them, each as if it were alone."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from contracts.adapters import BASE
from contracts.generation import GenerateRequest, StepMessage, StepPart, StreamTicket, TokenDelta
from replicas.group import Group
from replicas.shared_steps import SharedSteps
from tests.replicas.engines import Stack, SteppedEngine, answers, make_group, turns


class Call:
    """A call of `share` that is read in a task of its own; `messages` are those with answers."""

    def __init__(
        self, stack: Stack, requests: tuple[GenerateRequest, ...], door: str, number: int
    ) -> None:
        self.messages: list[StepMessage] = []
        self.stream: AsyncGenerator[StepMessage] = stack.replica.share(
            requests, StreamTicket(door, number)
        )
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self.stream:
            parts = tuple(
                replace(part, deltas=answers(part.deltas))
                for part in message.parts
                if part.is_last or answers(part.deltas)
            )
            if parts or message.joined is not None:
                self.messages.append(replace(message, parts=parts))


async def call(stack: Stack, number: int, *, door: str = "d", first_id: int = 0) -> Call:
    """Two requests for the base model."""
    made = Call(stack, make_group(BASE, BASE, first_id=first_id), door, number)
    await turns()
    return made


def parts(message: StepMessage) -> dict[int, tuple[list[int], bool]]:
    """The places that each group of a message has news for, and whether it ended."""
    return {p.number: ([d.index for d in p.deltas], p.is_last) for p in message.parts}


async def test_a_later_group_joins_and_one_message_brings_both(
    stepped: Stack, engine: SteppedEngine
) -> None:
    first, second = await call(stepped, 4), await call(stepped, 5, first_id=2)
    assert [message.joined for message in second.messages] == [4]
    assert second.task.done()
    engine.step(1)
    await turns()
    engine.step(2, "stop")
    await asyncio.wait_for(first.task, 5)
    assert [parts(m) for m in first.messages] == [
        {4: ([0, 1], False), 5: ([0, 1], False)},
        {4: ([0, 1], True), 5: ([0, 1], True)},
    ]


async def test_the_stream_outlives_the_group_that_opened_it(
    stepped: Stack, engine: SteppedEngine
) -> None:
    first, _ = await call(stepped, 1), await call(stepped, 2, first_id=2)
    await stepped.replica.cancel(("0", "1"))
    await turns()
    assert parts(first.messages[-1]) == {1: ([0, 1], True)}
    assert not first.task.done()
    engine.step(7, "stop")
    await asyncio.wait_for(first.task, 5)
    assert parts(first.messages[-1]) == {2: ([0, 1], True)}


async def test_what_comes_after_the_end_has_a_stream_of_its_own(
    stepped: Stack, engine: SteppedEngine
) -> None:
    first = await call(stepped, 1)
    engine.step(1, "stop")
    await asyncio.wait_for(first.task, 5)
    second = await call(stepped, 2)
    engine.step(1, "stop")
    await asyncio.wait_for(second.task, 5)
    assert parts(second.messages[-1]) == {2: ([0, 1], True)}


async def test_doors_do_not_share(stepped: Stack, engine: SteppedEngine) -> None:
    calls = [await call(stepped, 1, door="a"), await call(stepped, 1, door="b", first_id=2)]
    engine.step(1, "stop")
    for made in calls:
        await asyncio.wait_for(made.task, 5)
        assert [parts(m) for m in made.messages] == [{1: ([0, 1], True)}]


async def test_a_stream_that_is_closed_ends_all_who_joined(
    stepped: Stack, engine: SteppedEngine
) -> None:
    first, _ = await call(stepped, 1), await call(stepped, 2, first_id=2)
    first.task.cancel()
    await asyncio.gather(first.task, return_exceptions=True)
    await first.stream.aclose()
    assert set(engine.aborted) == {"0", "1", "2", "3"}


async def test_an_old_stream_takes_nobody_in(stepped: Stack, engine: SteppedEngine) -> None:
    ended: list[Group] = []

    async def end(group: Group) -> None:
        ended.append(group)
        await group.close()

    steps = SharedSteps(0, end, max_messages=1)
    assert steps.is_open
    steps.add(0, stepped.replica._begin(make_group(BASE), steps))
    messages = steps.messages()
    coming = asyncio.ensure_future(anext(messages))
    await turns()
    engine.step(1)
    assert (await coming).parts[0].number == 0
    assert not steps.is_open
    await messages.aclose()
    assert len(ended) == 1
    stepped.replica._groups.clear()


async def test_a_group_that_breaks_breaks_nobody_else(
    stepped: Stack, engine: SteppedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await call(stepped, 1), await call(stepped, 2, first_id=2)
    broken = engine.sources["2"]

    def drain(index: int) -> list[TokenDelta]:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(broken, "drain", drain)
    engine.step(1)
    await turns()
    (message,) = first.messages
    assert message.parts[1] == StepPart(2, is_last=True)
    assert {"2", "3"} <= set(engine.aborted)
    engine.step(2, "stop")
    await asyncio.wait_for(first.task, 5)
    assert parts(first.messages[-1]) == {1: ([0, 1], True)}


@pytest.mark.parametrize("is_alive", [True, False])
async def test_a_silent_stream_says_whether_the_engine_moves(
    stepped: Stack, *, is_alive: bool
) -> None:
    async def end(group: Group) -> None:
        await group.close()

    steps = SharedSteps(0, end, is_alive=lambda: is_alive, beat_s=0.01)
    steps.add(0, stepped.replica._begin(make_group(BASE), steps))
    stream = steps.messages()

    async def first_beat() -> StepMessage:
        return await anext(message async for message in stream if not message.parts)

    if is_alive:
        assert await asyncio.wait_for(first_beat(), 5) == StepMessage()
    else:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(first_beat(), 0.2)
