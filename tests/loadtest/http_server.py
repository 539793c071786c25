"""A server of canned streams, for tests of the HTTP client."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EVENT = b'data: {"choices": [{"text": "a"}]}\n\n'
USAGE = b'data: {"choices": [], "usage": {"completion_tokens": 3}}\n\n'
DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"code": "engine_failed"}}\n\n'


class Handler(BaseHTTPRequestHandler):
    """Answers as its server's `parts` say; None among them is a connection that breaks."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, CannedServer)
        self.rfile.read(int(self.headers["Content-Length"]))
        server.num_connections.add(self.client_address)
        server.keys.append(self.headers.get("Authorization", ""))
        self.send_response(server.status)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in server.parts:
            if part is None:
                self.close_connection = True
                return
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            server.pause.wait(server.pause_s)
        self.wfile.write(b"0\r\n\r\n")
        self.close_connection = server.hangs_up

    def log_message(self, format: str, *args: object) -> None:
        """Not a word."""


class CannedServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.parts: list[bytes | None] = [EVENT, EVENT, EVENT, USAGE, DONE]
        self.status = 200
        self.hangs_up = False
        self.pause, self.pause_s = threading.Event(), 0.0
        self.num_connections: set[object] = set()
        self.keys: list[str] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may leave."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def canned_server() -> Iterator[CannedServer]:
    with CannedServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.pause.set()
            server.shutdown()
            thread.join()
