"""Headless Chromium as the tests of the console drive it, and what must never happen in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from tests.end_to_end.installed_browser import find_browser

_TIMEOUT_MS = 8000
_FLAGS = (
    "--no-sandbox",  # there is none for root, and every page is our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Watch:
    """What a context's pages have done: requests by URL, and whatever a user would not see."""

    urls: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def follow(self, page: Page) -> None:
        page.on("console", self._logged)
        page.on("pageerror", lambda error: self.troubles.append(str(error)))
        page.on("dialog", lambda dialog: self.troubles.append(f"dialog {dialog.message}"))

    def asked(self, request: Request) -> None:
        self.urls.append(request.url)

    def _logged(self, message: ConsoleMessage) -> None:
        # A refusal is the API's, and shown; broken policies and scripts are ours.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.troubles.append(message.text)


@contextmanager
def chromium() -> Iterator[BrowserContext]:
    """One browser with a fresh profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=list(_FLAGS))
        context = browser.new_context(viewport={"width": 1180, "height": 760})
        context.set_default_timeout(_TIMEOUT_MS)
        yield context
        browser.close()
