"""What the console is whatever it shows: honest about its age, closed to markup, usable by all."""

import json
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, ViewportSize, expect

from app.http_console import console_files
from tests.end_to_end.echo_server import EchoServer
from tests.end_to_end.one_server.console import KEY, check, open_view, within
from tests.end_to_end.one_server.console import context as context
from tests.end_to_end.one_server.console import page as page

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow, pytest.mark.browser]

HOSTILE = "<img src=x onerror=alert(1)>"
WIDE: ViewportSize = {"width": 1180, "height": 760}
NARROW: ViewportSize = {"width": 380, "height": 700}


def error_answer(route: Route, status: int, code: str, message: str) -> None:
    error = {"message": message, "type": "server_error", "param": None, "code": code}
    route.fulfill(status=status, body=json.dumps({"error": error}), content_type="application/json")


def test_what_is_stale_says_so_and_recovers(page: Page, server: EchoServer) -> None:
    open_view(page, server, "replicas")
    freshness = page.locator(".freshness")
    expect(freshness).to_contain_text("Live")
    page.route(
        "**/v1/replicas", lambda route: error_answer(route, 503, "store_unavailable", "Away.")
    )
    page.get_by_role("button", name="Refresh").click()
    expect(freshness).to_contain_text("Stale")
    expect(freshness).to_contain_text("trying again in")
    expect(page.get_by_role("alert")).to_contain_text("Away.")
    expect(page.get_by_role("alert")).to_contain_text("store_unavailable")
    expect(page.locator("article.card")).to_have_count(1)  # what was known stays
    page.unroute("**/v1/replicas")
    page.route("**/v1/replicas", lambda route: route.abort())
    page.get_by_role("button", name="Refresh").click()
    expect(page.get_by_role("alert")).to_contain_text("unreachable")
    page.unroute("**/v1/replicas")
    page.get_by_role("button", name="Refresh").click()
    expect(freshness).to_contain_text("Live")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_key_is_sent_in_one_header_and_forgotten(page: Page, server: EchoServer) -> None:
    seen: list[str | None] = []

    def guarded(route: Route) -> None:
        key = route.request.headers.get("authorization")
        seen.append(key)
        if key == f"Bearer {KEY}":
            route.continue_()
        else:
            error_answer(route, 401, "invalid_api_key", "The API key is not valid.")

    page.route("**/v1/**", guarded)
    open_view(page, server, "adapters")
    dialog = page.get_by_role("dialog", name="Sign in")
    expect(dialog.get_by_label("API key")).to_be_focused()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("invalid_api_key")
    dialog.get_by_label("API key").fill(KEY)
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    expect(page.get_by_text("Tenant default")).to_be_visible()
    expect(page.get_by_role("link", name="amber")).to_be_visible()
    assert set(seen) == {None, "Bearer wrong", f"Bearer {KEY}"}
    stores: Any = within(page, "[Object.values(sessionStorage), localStorage.length]")
    assert stores == [[KEY], 0]
    assert KEY not in page.content()
    page.get_by_role("button", name="Forget key").click()
    expect(dialog).to_be_visible()
    assert within(page, "sessionStorage.length") == 0


def test_what_others_wrote_is_text(page: Page, server: EchoServer) -> None:
    entry = {"tenant": HOSTILE, "model": HOSTILE, "requests": 1}
    tokens = {"prompt_tokens": 1, "cached_tokens": 0, "generated_tokens": 1}
    answer = {"object": "usage", "tenant": HOSTILE, "since": 0, "until": 1, "complete": True}
    page.route(
        "**/v1/usage*",
        lambda route: route.fulfill(json={**answer, "data": [entry | tokens], "has_more": False}),
    )
    page.route("**/v1/adapters*", lambda route: error_answer(route, 500, HOSTILE, HOSTILE))
    open_view(page, server, "usage")
    expect(page.get_by_role("row", name=HOSTILE)).to_be_visible()
    page.get_by_role("link", name="Adapters").click()
    expect(page.get_by_role("alert").get_by_text(HOSTILE).first).to_be_visible()
    assert page.locator("img").count() == 1  # the console's own


def test_a_script_that_made_markup_of_text_would_fail(
    context: BrowserContext, server: EchoServer
) -> None:
    page = context.new_page()
    open_view(page, server, "compare")
    assert check(page, "markup") == "TypeError"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_can_be_read_and_used_by_keyboard(
    page: Page, server: EchoServer, scheme: Any
) -> None:
    page.emulate_media(color_scheme=scheme)
    for view in ("replicas", "adapters", "adapters/amber", "compare", "usage"):
        open_view(page, server, view)
        expect(page.locator(".lane, .freshness.live").first).to_be_visible()
        assert check(page, "nameless") == []
        ratio, text = check(page, "contrast")
        assert ratio >= 4.5, text
        if scheme == "light":
            page.set_viewport_size(NARROW)
            assert within(page, "document.documentElement.scrollWidth") <= NARROW["width"]
            page.set_viewport_size(WIDE)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


def test_events_are_the_same_however_their_bytes_are_cut(page: Page, server: EchoServer) -> None:
    open_view(page, server, "compare")
    cut = check(page, "cutEvents")
    assert cut == [['{"a": "é✓"}', "one\ntwo", "[DONE]"]] * len(cut)
    assert len(cut) > 50


def test_numbers_and_waits(page: Page, server: EchoServer) -> None:
    open_view(page, server, "compare")
    found = check(page, "numbers")
    assert found["bytes"] == [
        *("0 bytes", "1 byte", "999 bytes", "1.00 kB", "253 kB", "500 MB", "10.0 GB")
    ]
    assert found["share"] == ["100 %", "99.9 %", "50.0 %"]
    assert found["short"] == ["7", "9,999", "12.3 k", "2.50 M"]
    assert found["unknown"] == 1
    assert found["differs"] == [-1, 1, 0, 2]
    assert found["waits"] == [2000, 4000, 16000, 60000, 30000]
    assert found["stale"] == [False, False, True]
    names = {role: file["name"] for role, file in found["whole"].items()}
    assert names == {"weights": "a.safetensors", "config": "adapter_config.json"}
    assert "a.pt" in found["pickle"]["problem"]
    assert "several" in found["several"]["problem"]


def test_all_files_are_asked_for_and_no_other(page: Page, server: EchoServer) -> None:
    asked: list[str] = []
    page.on("response", lambda answer: asked.append(answer.url.partition("/console/")[2]))
    open_view(page, server, "adapters")
    expect(page.get_by_role("link", name="amber")).to_be_visible()
    names = {name.partition("#")[0] for name in asked if name and "?" not in name} - {""}
    assert names == console_files().keys() - {"index.html"}
