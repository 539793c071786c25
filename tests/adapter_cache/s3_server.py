"""A server that speaks S3, on this machine."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class S3Server:
    """Buckets in memory. `options` are what fsspec's S3 filesystem needs to reach it."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"

    @property
    def options(self) -> dict[str, Any]:
        return {
            "key": "test",
            "secret": "hunter2",
            "endpoint_url": self.endpoint,
            "client_kwargs": {"region_name": "us-east-1"},
        }

    def make_bucket(self, name: str) -> None:
        httpx.put(f"{self.endpoint}/{name}").raise_for_status()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    # One line a request otherwise.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    # One request at a time: moto checks a condition and writes in two steps, where S3 has one.
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    found = S3Server(server.server_port)
    try:
        # Buckets belong to the process and outlive a server.
        httpx.post(f"{found.endpoint}/moto-api/reset").raise_for_status()
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
