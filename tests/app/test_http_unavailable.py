from http.client import HTTPResponse
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import cast

import httpx
import orjson
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.http_unavailable import PROXY_CALLBACK, unavailable_page, write_unavailable_page


class Wire:
    """What http.client reads an answer from."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def makefile(self, _: str) -> BytesIO:
        return BytesIO(self._answer)


def test_the_page_is_an_answer_that_says_come_again() -> None:
    answer = HTTPResponse(cast("object", Wire(unavailable_page())))  # type: ignore[arg-type]
    answer.begin()
    assert answer.status == 503
    assert answer.getheader("Retry-After") == "1"
    error = orjson.loads(answer.read())["error"]
    assert error["code"] == "not_ready"


def test_only_a_page_of_serves_is_replaced(tmp_path: Path) -> None:
    write_unavailable_page(tmp_path)
    assert list(tmp_path.iterdir()) == []
    page = tmp_path / "node" / "500.http"
    page.parent.mkdir()
    page.write_text("HTTP/1.1 500 Internal Server Error\r\n\r\n")
    write_unavailable_page(tmp_path)
    assert page.read_bytes() == unavailable_page()


async def ask(app: ASGIApp) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
        return await http.get("/")


async def test_what_ends_without_an_answer_gets_one() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return None

    answer = await ask(proxied(app))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["code"] == "not_ready"


@pytest.mark.parametrize(("status", "says_when"), [(200, False), (500, False), (503, True)])
async def test_other_answers_stay_as_they_are(status: int, says_when: bool) -> None:
    answer = await ask(proxied(PlainTextResponse("what it says", status)))
    assert (answer.status_code, answer.text) == (status, "what it says")
    assert ("retry-after" in answer.headers) == says_when


async def test_an_answer_that_says_when_is_believed() -> None:
    answer = await ask(proxied(PlainTextResponse("busy", 503, {"Retry-After": "7"})))
    assert answer.headers["retry-after"] == "7"


def proxied(app: ASGIApp) -> ASGIApp:
    """As Ray Serve wraps it: what it finds by the name that it is told."""
    module, _, name = PROXY_CALLBACK.partition(":")
    for middleware in getattr(import_module(module), name)():
        app = middleware.cls(app, *middleware.args, **middleware.kwargs)
    return app
