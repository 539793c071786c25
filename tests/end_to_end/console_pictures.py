"""The pictures in docs/console.md, of a server that runs.

`python -m tests.end_to_end.console_pictures [http://127.0.0.1:8000]` publishes an adapter `captain`
there, made of the demo adapters, rolls it back, and deletes it at the end.
"""

import sys
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from tests.end_to_end.browser import chromium

IMAGES = Path("docs/images")
DEMOS = Path("flora/demo/adapters")
NAME = "captain"


def upload(page: Page, demo: str, version: int) -> None:
    """Publish a demo adapter's files in the dialog that is open."""
    dialog = page.get_by_role("dialog")
    files = [str(path) for path in sorted((DEMOS / demo).glob("adapter_*"))]
    dialog.get_by_label("Adapter files").set_input_files(files)
    dialog.get_by_role("button", name="Publish").click()
    expect(dialog).to_contain_text(f"{NAME} is published as version {version}.")


def publish_and_roll_back(page: Page, url: str) -> None:
    """Two versions by hand, and back to the first."""
    page.goto(f"{url}/console#/adapters")
    page.get_by_role("button", name="Upload adapter").click()
    page.get_by_role("dialog").get_by_label("Name").fill(NAME)
    upload(page, "shakespeare", 1)
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("link", name=NAME).click()
    page.get_by_role("button", name="Upload new version").click()
    upload(page, "pirate", 2)
    expect(page.locator("tbody tr")).to_have_count(2)
    take(page, "upload")
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Roll back to version 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("tbody tr")).to_have_count(3)
    take(page, "rollback")


def ask(page: Page, url: str) -> None:
    """The base model and an adapter, on one prompt: twice, the first time warms up."""
    page.goto(f"{url}/console#/compare?adapter=pirate")
    page.get_by_label("Most tokens").fill("48")
    for _ in range(2):
        page.get_by_role("button", name="Ask all").click()
        expect(page.locator(".verdict")).to_contain_text("differ", timeout=60_000)
        expect(page.locator(".facts-line").last).to_contain_text("stop", timeout=60_000)
    take(page, "compare")


def take(page: Page, name: str) -> None:
    """One picture, of what can be seen."""
    page.mouse.move(0, 0)
    page.screenshot(path=IMAGES / f"console-{name}.png")


def main(url: str) -> None:
    """All of them, in the order of docs/console.md."""
    with chromium() as context:
        page = context.new_page()
        try:
            publish_and_roll_back(page, url)
            ask(page, url)
            page.goto(f"{url}/console#/replicas")
            expect(page.locator("article.card")).to_contain_text("Tokens/s")
            page.wait_for_timeout(5000)  # a rate is the difference of two looks
            take(page, "replicas")
            page.goto(f"{url}/console#/usage")
            page.get_by_label("By").select_option("model")
            expect(page.locator("tbody tr").first).to_be_visible()
            take(page, "usage")
        finally:
            httpx.delete(f"{url}/v1/adapters/{NAME}", timeout=10)


if __name__ == "__main__":
    main(*(sys.argv[1:] or ["http://127.0.0.1:8000"]))
