"""The whole door in one process: no hostile body is more than a caller's error to it."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

from app.http_api import create_app
from tests.app.hostile_requests import PATHS, content_types, json_bodies, multipart_bodies
from tests.app.parts import CountingReplica, make_door

HARSH = settings(deadline=None, suppress_health_check=list(HealthCheck))
Send = Callable[[str, str, bytes, str], httpx.Response]


@contextmanager
def door() -> Iterator[Send]:
    """Sends one request after the other; an exception that is not answered breaks the test."""
    with asyncio.Runner() as runner:

        async def start() -> httpx.AsyncClient:
            app = create_app(make_door(CountingReplica()))
            return httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://door", timeout=20
            )

        client = runner.run(start())

        def send(method: str, path: str, body: bytes, content_type: str) -> httpx.Response:
            headers = {"Content-Type": content_type} if content_type else {}
            return runner.run(client.request(method, path, content=body, headers=headers))

        yield send
        runner.run(client.aclose())


def assert_clear(response: httpx.Response) -> None:
    """An answer, or a caller's error that says what it is."""
    if response.status_code >= 400:
        error = response.json()["error"]
        assert response.status_code < 500, error
        assert error["message"]
        assert error["code"]


@pytest.mark.parametrize("path", PATHS)
def test_json_bodies(path: str) -> None:
    with door() as send:

        @HARSH
        @given(json_bodies(PATHS[path]))
        def check(body: bytes) -> None:
            assert_clear(send("POST", path, body, "application/json"))

        check()


def test_uploads() -> None:
    with door() as send:

        @HARSH
        @given(content_types(), multipart_bodies())
        def check(content_type: str, body: bytes) -> None:
            assert_clear(send("PUT", "/v1/adapters/a", body, content_type))

        check()


def test_a_form_that_ends_within_a_file_leaves_no_open_file() -> None:
    """An open one is reported when it is collected, which here is an error."""
    body = b'--frontier\r\nContent-Disposition: form-data; name="f"; filename="a.json"\r\n\r\n{'
    with door() as send:
        response = send("PUT", "/v1/adapters/a", body, "multipart/form-data; boundary=frontier")
    assert response.json()["error"]["code"] == "invalid_adapter"
    gc.collect()
