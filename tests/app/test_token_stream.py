"""Bursts, ends and leaving readers."""

import asyncio

import pytest

from app.token_stream import TokenStream
from contracts.errors import DeadlineExceeded, EngineFailed
from contracts.generation import TokenDelta


def delta(text: str = "x", finish: str | None = None, choice: int = 0) -> TokenDelta:
    return TokenDelta(0, choice, text=text, finish_reason=finish)


async def read(stream: TokenStream) -> list[list[str]]:
    return [[d.text for d in burst] async for burst in stream]


async def test_what_arrives_together_is_one_burst() -> None:
    stream = TokenStream("a")
    for text in "abc":
        stream.push(delta(text))
    reading = asyncio.ensure_future(read(stream))
    await asyncio.sleep(0)
    stream.push(delta("d", "stop"))
    assert await reading == [["a", "b", "c"], ["d"]]


async def test_it_ends_when_every_choice_has() -> None:
    stream = TokenStream("a", num_choices=2)
    stream.push(delta("a", "stop", 0))
    assert not stream.ended
    stream.push(delta("b", "length", 1))
    stream.push(delta("after", None, 1))
    assert await read(stream) == [["a", "b"]]


async def test_an_error_comes_after_the_tokens_before_it() -> None:
    stream = TokenStream("a")
    stream.push(delta("a"))
    stream.push(TokenDelta(0, error=EngineFailed("gone")))
    stream.fail(EngineFailed("the second does not count"))
    assert [d.text for d in await anext(stream)] == ["a"]
    with pytest.raises(EngineFailed, match="gone"):
        await anext(stream)


async def test_a_leaving_reader_is_told_of_once() -> None:
    told: list[str] = []
    stream = TokenStream("a", on_close=told.append)
    waiting = asyncio.ensure_future(read(stream))
    await asyncio.sleep(0)
    stream.close()
    stream.close()
    stream.push(delta())
    assert (await waiting, told) == ([], ["a"])


async def test_a_finished_request_needs_no_cancel() -> None:
    told: list[str] = []
    stream = TokenStream("a", on_close=told.append)
    stream.push(delta("a", "stop"))
    stream.close()
    stream.expire(DeadlineExceeded("late"))
    assert told == []


async def test_expiry_stops_the_request_and_tells_the_reader() -> None:
    told: list[str] = []
    stream = TokenStream("a", on_close=told.append)
    stream.expire(DeadlineExceeded("late"))
    with pytest.raises(DeadlineExceeded):
        await anext(stream)
    assert told == ["a"]
    assert "a" in repr(stream)
