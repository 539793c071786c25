"""Streams are counted whole, whatever pieces they come in; anything else is an error."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from benchmarks.streaming_client import Ask, ask_together, count_tokens, request_bytes

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = b'5\r\ndata:\r\n40\r\n{"usage":{"prompt_tokens":3,"completion_tokens":7}}\n\n[DONE]\r\n'
ASK = Ask("m", (1, 2, 3), 7)


@asynccontextmanager
async def server(pieces: list[bytes]) -> AsyncIterator[str]:
    """Answers every request with the pieces, a moment apart."""

    handlers = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.append(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    made = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with made:
        yield f"http://127.0.0.1:{made.sockets[0].getsockname()[1]}"
        await asyncio.gather(*filter(None, handlers))


@pytest.mark.parametrize(
    "end", [[b"0\r\n\r\n"], [b"0", b"\r\n\r", b"\n"]], ids=["whole", "in pieces"]
)
async def test_a_stream_is_read_to_its_end(end: list[bytes]) -> None:
    async with server([HEAD, EVENTS, *end]) as url:
        answers, elapsed_s = await ask_together(url, [ASK] * 3)
    assert [answer.num_tokens for answer in answers] == [7, 7, 7]
    assert elapsed_s >= max(answer.ttft_s for answer in answers) > 0.005


async def test_a_refusal_says_what_came() -> None:
    async with server([b"HTTP/1.1 503 No\r\ncontent-length: 4\r\n\r\nbusy"]) as url:
        with pytest.raises(RuntimeError, match="busy"):
            await ask_together(url, [ASK])


async def test_a_server_that_hangs_up_is_an_error() -> None:
    async with server([HEAD, b"5\r\ndata:\r\n"]) as url:
        with pytest.raises(ConnectionResetError):
            await ask_together(url, [ASK])


def test_the_count_is_that_of_the_usage() -> None:
    assert count_tokens(HEAD + EVENTS) == 7
    with pytest.raises(RuntimeError, match="not a whole stream"):
        count_tokens(HEAD + b"data: {}")


def test_a_request_is_one_post() -> None:
    head, _, body = request_bytes("host:1", ASK).partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/completions HTTP/1.1\r\nHost: host:1\r\n")
    assert f"Content-Length: {len(body)}".encode() in head
    assert b'"max_tokens": 7' in body
