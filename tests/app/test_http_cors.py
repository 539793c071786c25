"""Pages of other origins: shut out unless the settings name them."""

import httpx
import pytest

from app.http_api import create_app
from tests.app.bodies import CHAT
from tests.app.parts import make_door

PAGE = "https://app.example.org"
PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


async def ask(origins: tuple[str, ...], method: str, headers: dict[str, str]) -> httpx.Response:
    transport = httpx.ASGITransport(create_app(make_door(), origins))
    async with httpx.AsyncClient(transport=transport, base_url="http://door") as client:
        json = CHAT if method == "POST" else None
        return await client.request(method, "/v1/chat/completions", headers=headers, json=json)


async def test_pages_are_shut_out_by_default() -> None:
    asked = await ask((), "OPTIONS", PREFLIGHT)
    answered = await ask((), "POST", {"origin": PAGE})
    assert (asked.status_code, answered.status_code) == (405, 200)
    for answer in (asked, answered):
        assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("origins", [(PAGE,), ("https://other.example.org", PAGE), ("*",)])
async def test_pages_that_the_settings_name_may_call(origins: tuple[str, ...]) -> None:
    asked = await ask(origins, "OPTIONS", PREFLIGHT)
    assert asked.status_code == 200
    assert asked.headers["access-control-allow-origin"] in (PAGE, "*")
    assert "x-stainless-os" in asked.headers["access-control-allow-headers"]
    # Cookies are none of ours: a page sends a key that it has been given.
    assert "access-control-allow-credentials" not in asked.headers
    answered = await ask(origins, "POST", {"origin": PAGE})
    assert answered.headers["access-control-allow-origin"] in (PAGE, "*")


async def test_other_pages_stay_out() -> None:
    asked = await ask(("https://other.example.org",), "OPTIONS", PREFLIGHT)
    assert asked.status_code == 400
    answered = await ask(("https://other.example.org",), "POST", {"origin": PAGE})
    assert answered.headers.get("access-control-allow-origin") is None
