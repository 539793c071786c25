"""What is answered where no ingress process does: that it is worth trying again.

Ray Serve says a bare 500 there, HAProxy by a page of Serve's and a proxy of Serve's, which holds
requests until there is an ingress process, where that process is then lost. Nobody who could
answer has had such a request, or nobody has begun to answer it.
"""

from pathlib import Path
from typing import Any

import orjson
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.http_errors import RETRY_AFTER_S, error_body, status_of
from contracts.errors import NotReady

PROXY_CALLBACK = "app.http_unavailable:proxy_middlewares"
"""For Ray Serve's proxies, which find it by this name."""

_FILE = "500.http"
_ERROR = NotReady("The server is starting, or starting again.")


class Unanswered:
    """ASGI middleware: what ends without an answer is answered with 503; 503 says when to retry."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def send_on(message: Message) -> None:
            nonlocal has_begun
            if not has_begun:
                has_begun = True
                if message.get("status") == 503:
                    MutableHeaders(scope=message).setdefault("retry-after", str(RETRY_AFTER_S))
            await send(message)

        await self._app(scope, receive, send_on)
        if not has_begun:
            for message in _messages():
                await send(message)


def proxy_middlewares() -> list[Middleware]:
    """What Ray Serve puts around its proxies' and ingress processes' HTTP."""
    return [Middleware(Unanswered)]


def write_unavailable_page(directory: Path) -> None:
    """Put our page in the place of Serve's, wherever below `directory` it is. HAProxy reads it
    anew each time that its servers change.
    """
    for page in directory.rglob(_FILE):
        page.write_bytes(unavailable_page())


def unavailable_page() -> bytes:
    """A whole HTTP answer."""
    body = orjson.dumps(error_body(_ERROR))
    head = "".join(f"{name}: {value}\r\n" for name, value in _headers(body).items())
    return f"HTTP/1.1 {status_of(_ERROR)} Service Unavailable\r\n{head}\r\n".encode() + body


def _headers(body: bytes) -> dict[str, Any]:
    return {
        "Content-Type": "application/json",
        "Retry-After": RETRY_AFTER_S,
        "Content-Length": len(body),
    }


def _messages() -> list[Message]:
    body = orjson.dumps(error_body(_ERROR))
    headers = [(n.lower().encode(), str(v).encode()) for n, v in _headers(body).items()]
    return [
        {"type": "http.response.start", "status": status_of(_ERROR), "headers": headers},
        {"type": "http.response.body", "body": body},
    ]
