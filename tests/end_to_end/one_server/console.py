"""The console in a real browser, over the server of this folder: fixtures of its tests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.end_to_end.browser import Watch, chromium
from tests.end_to_end.echo_server import EchoServer

KEY = "flora-0123456789abcdef-" + "s" * 43
CHECKS = Path(__file__).parent / "console_checks.js"


@pytest.fixture(scope="module")
def context(server: EchoServer) -> Iterator[BrowserContext]:
    for seed, name in enumerate(("amber", "basil")):
        assert server.publish(name, seed).status_code == 200
    with chromium() as context:
        yield context


@pytest.fixture
def page(context: BrowserContext, server: EchoServer) -> Iterator[Page]:
    """A new tab; nothing may fail in it unseen, and nothing leave the server."""
    watch = Watch()
    page = context.new_page()
    watch.follow(page)
    page.on("request", watch.asked)
    yield page
    page.close()
    assert watch.troubles == []
    assert {url for url in watch.urls if not url.startswith(server.url)} == set()
    assert not [url for url in watch.urls if KEY in url]


def open_view(page: Page, server: EchoServer, view: str) -> None:
    page.goto(f"{server.url}/console#/{view}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def check(page: Page, name: str) -> Any:
    """What one of the functions in console_checks.js says."""
    return within(page, f"({CHECKS.read_text()}).{name}()")


def within(page: Page, expression: str) -> Any:
    """What an expression is in the page. Not by `page.evaluate`: the page's policy forbids eval."""
    how = {"expression": expression, "awaitPromise": True, "returnByValue": True}
    answer = page.context.new_cdp_session(page).send("Runtime.evaluate", how)
    assert "exceptionDetails" not in answer, answer
    return answer["result"].get("value")
