"""Answers on the wire: server-sent events or one JSON body, and the client that leaves early."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.answer import Answer, Burst
from app.answer_format import DONE_EVENT, EVENT_END, EVENT_START, AnswerFormat, fingerprint_of
from app.http_errors import error_body
from app.http_limits import limit_headers
from contracts.errors import DeadlineExceeded, ServingError

CLIENT_CLOSED_REQUEST = 499
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]


class DisconnectWatch:
    """Calls `on_disconnect` as soon as the client has gone. The body must have been read."""

    def __init__(self, receive: Receive, on_disconnect: Callable[[], None]) -> None:
        self._task = asyncio.ensure_future(self._watch(receive, on_disconnect))

    def stop(self) -> None:
        """The answer is out, or nobody cares any more."""
        self._task.cancel()

    @staticmethod
    async def _watch(receive: Receive, on_disconnect: Callable[[], None]) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        on_disconnect()


class EventStream(Response):
    """Sends each item of `events` as one write. `on_end` runs however the stream ends."""

    def __init__(
        self,
        events: AsyncIterator[bytes],
        on_end: Callable[[], None],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        extra = (headers or {}).items()
        self._head = [*_HEADERS, *((name.encode(), value.encode()) for name, value in extra)]
        self._events = events
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self._head})
            async for body in self._events:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._on_end()


async def respond(
    answer: Answer, wire: AnswerFormat, receive: Receive, *, stream: bool, timeout_s: float
) -> Response:
    """The whole answer, or a stream of it that starts when the first token is there.

    Until then an error still has its own status. A client that leaves ends the request, and so
    does DeadlineExceeded after `timeout_s`.
    """
    watch = DisconnectWatch(receive, answer.close)
    late = DeadlineExceeded(f"The answer took longer than {timeout_s:g} s.")
    timer = asyncio.get_running_loop().call_later(timeout_s, answer.expire, late)

    def on_end() -> None:
        timer.cancel()
        watch.stop()
        answer.close()

    first: Burst | None = None
    try:
        if not stream:
            return await _one_body(answer, wire)
        first = await answer.next()
    finally:
        if first is None:
            on_end()
    if first is None:
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    wire.sign(fingerprint_of(answer.adapter))
    return EventStream(_events(first, answer, wire), on_end, limit_headers(answer.standing))


async def _one_body(answer: Answer, wire: AnswerFormat) -> Response:
    choices = await answer.collect()
    wire.sign(fingerprint_of(answer.adapter))
    if any(choice.finish_reason is None for choice in choices):
        return Response(status_code=CLIENT_CLOSED_REQUEST)
    return Response(
        wire.body(choices, answer.usage),
        headers=limit_headers(answer.standing),
        media_type="application/json",
    )


async def _events(first: Burst, answer: Answer, wire: AnswerFormat) -> AsyncIterator[bytes]:
    """One item per burst: whatever has arrived together leaves in one write."""
    opening = wire.opening()
    burst: Burst | None = first
    try:
        while burst is not None:
            prompt, deltas = burst
            body = b"".join([wire.event(answer.choice(prompt, d), d) for d in deltas])
            if opening or body:
                yield opening + body
                opening = b""
            burst = await answer.next()
        yield wire.usage_event(answer.usage) + DONE_EVENT
    except ServingError as error:
        yield EVENT_START + orjson.dumps(error_body(error)) + EVENT_END + DONE_EVENT
