"""The access log's view of HTTP: ids and trace contexts in headers, routes and statuses."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.access_log import AccessLog

REQUEST_ID_HEADER = b"x-request-id"
UNMATCHED = "none"
"""The route of a request whose path or method no route has."""


class HttpAccessLog:
    """Around the whole application, so that no answer escapes it, not even that to a bug."""

    def __init__(self, app: ASGIApp, log: AccessLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        given_id = _text(headers, REQUEST_ID_HEADER)
        request = self._log.begin("http", given_id, _text(headers, b"traceparent"))
        request_id = request.context.request_id
        is_sent = self._log.is_behind_serve and request_id == given_id
        own_headers = [] if is_sent else [(REQUEST_ID_HEADER, request_id.encode())]
        status = "499"  # what it is when the client has left before any answer

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
                message["headers"] = [*message.get("headers", ()), *own_headers]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            request.end(route_of(scope), status)


class LoggedApplication(FastAPI):
    """An application within its access log, which is asked for when the first request comes."""

    def __init__(self, access_log: Callable[[], AccessLog], **options: Any) -> None:
        super().__init__(**options)
        self._access_log = access_log

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette calls it once. As a middleware the log would not see the answers to bugs."""
        return HttpAccessLog(super().build_middleware_stack(), self._access_log())


def route_of(scope: Scope) -> str:
    """The route's method and path as it is written, with its parameters' names."""
    route = scope.get("route")
    # A path that exists is found for any method; methods are whatever the client wrote.
    if not isinstance(route, Route) or scope["method"] not in (route.methods or ()):
        return UNMATCHED
    return f"{scope['method']} {route.path}"


def _text(headers: dict[bytes, bytes], name: bytes) -> str | None:
    value = headers.get(name)
    return None if value is None else value.decode("latin-1")
