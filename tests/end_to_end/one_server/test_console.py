"""What a person does with the console, and what the server has of it."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, Route, expect

from flora.adapter_files import write_adapter
from tests.end_to_end.echo_server import BASE, EchoServer
from tests.end_to_end.one_server.console import context as context
from tests.end_to_end.one_server.console import open_view
from tests.end_to_end.one_server.console import page as page
from tests.flora.adapters import make_adapter

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow, pytest.mark.browser]


def adapter_folder(server: EchoServer, folder: Path, seed: int) -> list[str]:
    """The two files of an adapter as PEFT calls them."""
    folder.mkdir()
    weights, config = write_adapter(make_adapter(server._layout, seed=seed), "float32")
    (folder / "adapter_model.safetensors").write_bytes(weights)
    (folder / "adapter_config.json").write_bytes(config)
    return [str(path) for path in folder.iterdir()]


def versions_of(server: EchoServer, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = server.http.get(f"/v1/adapters/{name}").json()["versions"]
    return found


def test_upload_publish_and_roll_back(page: Page, server: EchoServer, tmp_path: Path) -> None:
    open_view(page, server, "adapters")
    page.get_by_role("button", name="Upload adapter").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("carol")
    dialog.get_by_role("button", name="Publish").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Choose a .safetensors file")
    (tmp_path / "model.bin").write_bytes(b"no")
    dialog.get_by_label("Adapter files").set_input_files(str(tmp_path / "model.bin"))
    expect(dialog.get_by_role("alert")).to_contain_text("only safetensors")
    dialog.get_by_label("Adapter files").set_input_files(
        adapter_folder(server, tmp_path / "one", seed=11)
    )
    dialog.get_by_role("button", name="Publish").click()
    expect(dialog).to_contain_text("carol is published as version 1.")
    dialog.get_by_role("button", name="Close").click()

    page.get_by_role("link", name="carol").click()
    for number, seed in ((2, 12), (2, 12)):  # the same files again change nothing
        page.get_by_role("button", name="Upload new version").click()
        folder = tmp_path / f"two-{len(list(tmp_path.iterdir()))}"
        dialog.get_by_label("Adapter files").set_input_files(adapter_folder(server, folder, seed))
        dialog.get_by_role("button", name="Publish").click()
        expect(dialog).to_contain_text(f"version {number}")
        said = dialog.inner_text()
        dialog.get_by_role("button", name="Close").click()
    assert "Nothing changed" in said

    page.get_by_role("button", name="Roll back to version 1").click()
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Roll back to version 1").click()
    dialog.get_by_role("button", name="Roll back").click()
    expect(page.get_by_text("carol is now version 3")).to_be_visible()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first).to_contain_text("Current")
    expect(rows.first).to_contain_text("bytes of version 1")
    digests = [each["digest"] for each in versions_of(server, "carol")]
    assert digests[2] == digests[0] != digests[1]


def test_files_can_be_dropped(page: Page, server: EchoServer, tmp_path: Path) -> None:
    open_view(page, server, "adapters")
    page.get_by_role("button", name="Upload adapter").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("dropped")
    zone = page.locator(".drop")
    box = zone.bounding_box()
    assert box
    files = adapter_folder(server, tmp_path / "one", seed=21)
    drag = {
        "x": box["x"] + box["width"] / 2,
        "y": box["y"] + box["height"] / 2,
        "data": {"items": [], "files": files, "dragOperationsMask": 1},
    }
    devtools = page.context.new_cdp_session(page)
    devtools.send("Input.dispatchDragEvent", {"type": "dragEnter", **drag})
    expect(zone).to_have_class("drop over")
    for kind in ("dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, **drag})
    expect(zone).to_have_class("drop")
    expect(dialog).to_contain_text("adapter_model.safetensors (")
    dialog.get_by_role("button", name="Publish").click()
    expect(dialog).to_contain_text("dropped is published as version 1.")
    assert len(versions_of(server, "dropped")) == 1


def test_a_refused_upload_says_why(page: Page, server: EchoServer, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{broken}")
    open_view(page, server, "adapters/amber")
    page.get_by_role("button", name="Upload new version").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Adapter files").set_input_files(str(tmp_path / "a.safetensors"))
    dialog.get_by_role("button", name="Publish").click()
    alert = dialog.get_by_role("alert")
    expect(alert).to_contain_text("invalid_adapter")
    body = (tmp_path / "a.safetensors").read_bytes()
    refused = server.http.put("/v1/adapters/amber", content=body).json()["error"]
    expect(alert).to_contain_text(refused["message"])
    assert len(versions_of(server, "amber")) == 1


def test_answers_stream_side_by_side(page: Page, server: EchoServer) -> None:
    open_view(page, server, f"compare?base={BASE}&adapter=amber&version=1")
    lanes = page.locator(".lane")
    expect(lanes).to_have_count(3)
    page.get_by_label("Format").select_option("text")
    page.get_by_label("Prompt").fill("abc")
    page.get_by_label("Most tokens").fill("12")
    page.get_by_role("button", name="Ask all").click()
    expect(page.locator(".verdict")).to_contain_text("differ")
    answers = [lane.locator(".answer").inner_text() for lane in lanes.all()]
    bodies = [
        {"model": model, "prompt": "abc", "max_tokens": 12, "temperature": 0, "seed": 7}
        for model in (BASE, f"{BASE}:amber", f"{BASE}:amber@1")
    ]
    told = [server.http.post("/v1/completions", json=body).json() for body in bodies]
    assert [text.strip() for text in answers] == [
        each["choices"][0]["text"].strip() for each in told
    ]
    for lane, each in zip(lanes.all(), told, strict=True):
        facts = lane.locator(".facts-line")
        expect(facts).to_contain_text("12 tokens")
        expect(facts).to_contain_text(each["system_fingerprint"])

    page.get_by_label("Most tokens").fill("400")
    page.get_by_role("button", name="Ask all").click()
    expect(lanes.first.locator(".answer")).to_contain_text(" ")
    page.get_by_role("button", name="Stop").click()
    expect(lanes.first.locator(".facts-line")).to_contain_text("stopped")
    page.get_by_label("Adapter").nth(1).fill("nobody")
    page.get_by_label("Most tokens").fill("2")
    page.get_by_role("button", name="Ask all").click()
    expect(lanes.nth(1).get_by_role("alert")).to_contain_text("model_not_found")
    expect(lanes.nth(0).locator(".facts-line")).to_contain_text("2 tokens")


def test_replicas_and_usage_are_what_the_api_says(page: Page, server: EchoServer) -> None:
    assert server.ask("basil", max_tokens=5).status_code == 200
    open_view(page, server, "replicas")
    [replica] = server.http.get("/v1/replicas").json()["data"]
    card = page.locator("article.card")
    expect(card).to_contain_text(replica["id"])
    expect(card).to_contain_text("Answers")
    slots = replica["slots"]
    meter = card.get_by_role("meter", name="Device slots")
    expect(meter).to_have_attribute("aria-valuemax", str(slots["total"]))
    node = card.get_by_role("row", name="Node cache")
    expect(node).to_contain_text("%")
    expect(card.get_by_text("basil@1")).to_be_visible()  # reports come every second
    page.get_by_role("link", name="Usage").click()
    page.get_by_label("By").select_option("model")
    row = page.get_by_role("row", name=f"{BASE}:basil")
    expect(row).to_contain_text("default")
    expect(page.locator(".freshness")).to_contain_text("Live")


def test_a_replica_that_has_lost_its_engine_says_so(page: Page, server: EchoServer) -> None:
    def without_engine(route: Route) -> None:
        answer = route.fetch()
        body = answer.json()
        body["data"][0] |= {"slots": None, "lora_slots": None}
        route.fulfill(response=answer, json=body)

    page.route("**/v1/replicas", without_engine)
    open_view(page, server, "replicas")
    expect(page.locator("article.card .badge")).to_have_text("No engine")


def test_lists_are_paged_and_found_by_their_beginning(page: Page, server: EchoServer) -> None:
    entry = server.http.get("/v1/adapters/amber").json()
    names = [f"n{number:03}" for number in range(60)]

    def listed(route: Route) -> None:
        url = route.request.url
        after = url.partition("after=")[2]
        found = [name for name in names if name > after][:25]
        data = [{**entry, "name": name} for name in found]
        has_more = bool(found) and found[-1] != names[-1]
        route.fulfill(json={"object": "list", "data": data, "has_more": has_more})

    page.route("**/v1/adapters?*", listed)
    open_view(page, server, "adapters")
    rows = page.locator("tbody tr")
    expect(rows.first).to_contain_text("n000")
    page.get_by_role("button", name="Next").click()
    expect(rows.first).to_contain_text("n025")
    page.get_by_role("button", name="Next").click()
    expect(rows).to_have_count(10)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.get_by_label("Name begins with").fill("n04")
    expect(rows).to_have_count(10)
    expect(rows.last).to_contain_text("n049")
