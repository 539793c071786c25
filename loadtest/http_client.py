"""Streamed answers over HTTP/1.1, with connections that are kept.

Blocking, on the standard library's client: under gevent each request is a greenlet.
"""

import json
import socket
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from urllib.parse import urlsplit

from loadtest.dialects import Dialect, error_code
from loadtest.outcome import Stopwatch
from loadtest.target import BROKEN, TIMEOUT, UNREACHABLE, Request, verdict

_CHUNK_BYTES = 65536
_DATA = b"data:"


class HttpClient:
    """Asks one server. `timeout_s` is for a whole answer."""

    def __init__(self, url: str, dialect: Dialect, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"a server is http://HOST:PORT, not '{url}'")
        self._kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._address = (parts.hostname, parts.port)
        self._prefix = parts.path.rstrip("/")
        self._dialect = dialect
        self._timeout_s = timeout_s
        self._idle: list[HTTPConnection] = []

    def stream(self, request: Request, watch: Stopwatch) -> str:
        """See Client."""
        deadline_s = time.monotonic() + self._timeout_s
        try:
            connection, response = self._post(request, watch)
        except TimeoutError:
            return TIMEOUT
        except (OSError, HTTPException):
            return UNREACHABLE
        try:
            code = self._follow(connection, response, watch, deadline_s)
        except TimeoutError:
            code = TIMEOUT
        except (OSError, HTTPException, ValueError):
            code = BROKEN
        if response.isclosed() and not response.will_close:
            self._idle.append(connection)
        else:
            connection.close()
        return verdict(request, watch) if code == "ok" else code

    def close(self) -> None:
        """See Client."""
        while self._idle:
            self._idle.pop().close()

    def _post(self, request: Request, watch: Stopwatch) -> tuple[HTTPConnection, HTTPResponse]:
        """The answer's head. A kept connection may have been closed by the server meanwhile:
        then the request goes out once more, on a new one.
        """
        body = json.dumps(self._dialect.body(request)).encode()
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if request.key:
            headers["Authorization"] = f"Bearer {request.key}"
        watch.sent()
        while True:
            is_kept = bool(self._idle)
            connection = self._idle.pop() if is_kept else self._connect()
            try:
                connection.request("POST", self._prefix + self._dialect.path, body, headers)
                return connection, connection.getresponse()
            except (ConnectionError, HTTPException):
                connection.close()
                if not is_kept:
                    raise
            except OSError:
                connection.close()
                raise

    def _connect(self) -> HTTPConnection:
        connection = self._kind(*self._address, timeout=self._timeout_s)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _follow(
        self,
        connection: HTTPConnection,
        response: HTTPResponse,
        watch: Stopwatch,
        deadline_s: float,
    ) -> str:
        """Raises TimeoutError, OSError, HTTPException, ValueError."""
        if response.status != 200:
            return f"{response.status} {_code_of(response.read())}"
        code = BROKEN
        for data in _events(connection, response, deadline_s):
            event = self._dialect.read(data)
            if event.has_tokens:
                watch.token_event()
            if event.num_tokens:
                watch.usage(event.num_tokens)
            if event.error:
                code = event.error
            elif event.is_end and code == BROKEN:
                code = "ok"
        return code


def _events(
    connection: HTTPConnection, response: HTTPResponse, deadline_s: float
) -> Iterator[bytes]:
    """The data of each event as it comes. Raises TimeoutError behind `deadline_s`."""
    rest = b""
    while True:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        if connection.sock is not None:
            connection.sock.settimeout(left_s)
        part = response.read1(_CHUNK_BYTES)
        if not part:
            return
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            if line.startswith(_DATA):
                yield line[len(_DATA) :].strip()


def _code_of(body: bytes) -> str:
    try:
        return error_code(json.loads(body))
    except (ValueError, AttributeError):
        return "error"
