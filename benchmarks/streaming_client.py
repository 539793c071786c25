"""N streaming HTTP clients in one event loop, as cheap as can be: they share the server's cores.

Each holds a connection of its own, sends its whole request in one write and keeps what comes back
unread until the stream has ended. Knows OpenAI's event streams, and nothing of whose they are.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

_END = b"\r\n0\r\n\r\n"
_HEAD_END = b"\r\n\r\n"
_OK = b"HTTP/1.1 200"
_COUNT = b'"completion_tokens":'
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for exactly `num_tokens` tokens, greedy."""

    model: str
    prompt: tuple[int, ...]
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished stream: its tokens as its usage says, and when its first event came."""

    num_tokens: int
    ttft_s: float


async def ask_together(url: str, asks: Sequence[Ask]) -> tuple[list[Answer], float]:
    """All at once, each on a connection that was opened before; answers and seconds for all."""
    address = urlsplit(url)
    requests = [request_bytes(address.netloc, ask) for ask in asks]
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(StreamingClient, address.hostname or "", address.port or 80))[
            1
        ]
        for _ in requests
    ]
    try:
        started_s = time.perf_counter()
        pairs = zip(clients, requests, strict=True)
        answers = await asyncio.gather(*(client.ask(request) for client, request in pairs))
        return answers, time.perf_counter() - started_s
    finally:
        for client in clients:
            client.close()


def request_bytes(netloc: str, ask: Ask) -> bytes:
    """One POST as it goes over the wire."""
    body = {
        "model": ask.model,
        "prompt": ask.prompt,
        "max_tokens": ask.num_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    content = json.dumps(body).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {netloc}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class StreamingClient(asyncio.Protocol):
    """One connection, for one streamed answer after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._parts: list[bytes] = []
        self._done: asyncio.Future[None] | None = None
        self._first_s = 0.0

    async def ask(self, request: bytes) -> Answer:
        """Send `request` and read its stream to the end. Raises RuntimeError unless it is whole."""
        self._parts, self._first_s = [], 0.0
        self._done = asyncio.get_running_loop().create_future()
        started_s = time.perf_counter()
        self._transport.write(request)
        async with asyncio.timeout(_TIMEOUT_S):
            await self._done
        return Answer(count_tokens(b"".join(self._parts)), self._first_s - started_s)

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        # A head alone is no token: a server may send it before it has one.
        if not self._first_s and (self._parts or not data.endswith(_HEAD_END)):
            self._first_s = time.perf_counter()
        self._parts.append(data)
        if self._done is not None and not self._done.done() and self._has_ended():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server hung up"))

    def _has_ended(self) -> bool:
        if not self._parts[0].startswith(_OK):
            return True
        if len(self._parts[-1]) >= len(_END):
            return self._parts[-1].endswith(_END)
        return b"".join(self._parts[-len(_END) :]).endswith(_END)


def count_tokens(answer: bytes) -> int:
    """The completion's tokens by its usage event. Raises RuntimeError with what came instead."""
    _, found, rest = answer.rpartition(_COUNT)
    if not answer.startswith(_OK) or b"[DONE]" not in answer or not found:
        raise RuntimeError(f"not a whole stream: {answer[:2000].decode(errors='replace')}")
    return int(rest.lstrip().split(b",", 1)[0].split(b"}", 1)[0])
