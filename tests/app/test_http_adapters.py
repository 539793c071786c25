"""Publishing: both forms, hostile uploads, and that nothing is half published."""

import io
import json
import pickle
import zipfile
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from adapter_cache.store import MemoryStore
from app.door import DoorLimits
from contracts.adapters import DEFAULT_TENANT
from flora.tensor_file import METADATA_KEY
from tests.app.parts import CountingReplica, make_client, make_door
from tests.flora.adapters import make_bytes

WEIGHTS, CONFIG = make_bytes()
PATH = "/v1/adapters/mine"


def files(weights: bytes = WEIGHTS, config: bytes = CONFIG) -> dict[str, Any]:
    return {
        "anything": ("adapter_config.json", config),
        "whatever": ("adapter_model.safetensors", weights),
    }


def one_file() -> bytes:
    """The config moved into the header."""
    length = int.from_bytes(WEIGHTS[:8], "little")
    header = json.loads(WEIGHTS[8 : 8 + length])
    header["__metadata__"] = {METADATA_KEY: CONFIG.decode()}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + WEIGHTS[8 + length :]


async def put(store: MemoryStore | None = None, path: str = PATH, **options: Any) -> httpx.Response:
    limits = options.pop("limits", DoorLimits())
    async with make_client(make_door(store=store, limits=limits)) as client:
        return await client.put(path, **options)


async def test_both_forms_publish_the_same_version() -> None:
    store = MemoryStore()
    first = await put(store, files=files())
    raw = {"content-type": "application/octet-stream"}
    second = await put(store, content=one_file(), headers=raw)
    assert (first.status_code, second.status_code) == (200, 200), second.text
    assert first.json() == second.json()
    made = first.json()
    assert (made["id"], made["name"], made["version"], made["rank"]) == ("tiny:mine", "mine", 1, 1)
    blob = await store.fetch(made["digest"])
    assert blob is not None
    assert len(blob) == made["size_bytes"]


async def test_a_published_adapter_answers_at_once() -> None:
    replica = CountingReplica()
    async with make_client(make_door(replica)) as client:
        assert (await client.put(PATH, files=files())).status_code == 200
        body = {"model": "tiny:mine", "prompt": "x", "max_tokens": 1}
        answer = await client.post("/v1/completions", json=body)
        assert answer.json()["choices"][0]["text"] == "mine0 "
        shown = (await client.get(PATH)).json()
        assert [v["version"] for v in shown["versions"]] == [1]
        listed = (await client.get("/v1/adapters")).json()
        assert ([a["name"] for a in listed["data"]], listed["last_id"]) == (["mine"], "mine")
        assert (await client.delete(PATH)).json()["deleted"]
        gone = [await client.get(PATH), await client.delete(PATH)]
        gone.append(await client.post("/v1/completions", json=body))
        assert [a.status_code for a in gone] == [404, 404, 404]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.pkl", b"x")
    return buffer.getvalue()


HOSTILE = {
    "empty": b"",
    "pickle": pickle.dumps({"a": 1}),
    "zip": zipped(),
    "truncated": WEIGHTS[:-4],
    "cut in the header": WEIGHTS[:20],
    "huge header": (2**60).to_bytes(8, "little") + WEIGHTS[8:],
    "noise": bytes(range(256)) * 4,
    "text": b"<html>",
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_weights_are_refused(name: str) -> None:
    store = MemoryStore()
    for response in (
        await put(store, files=files(HOSTILE[name])),
        await put(store, content=HOSTILE[name], headers={"content-type": ""}),
    ):
        assert 400 <= response.status_code < 500, response.text
        assert response.json()["error"]["code"] in ("invalid_adapter", "adapter_too_large")
    assert await store.versions(DEFAULT_TENANT, "mine") == []


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (b"", "invalid_adapter"),
        (b"{", "invalid_adapter"),
        (CONFIG.replace(b"FLORA", b"LORA"), "invalid_adapter"),
        (CONFIG.replace(b"tiny-0", b"tiny-1"), "wrong_base_model"),
    ],
)
async def test_a_bad_config_is_refused(config: bytes, code: str) -> None:
    response = await put(files=files(config=config))
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"a": ("adapter_config.json", CONFIG)},
        {"a": ("adapter_model.bin", WEIGHTS)},
        {
            "a": ("adapter_model.safetensors", WEIGHTS),
            "b": ("c.json", CONFIG),
            "d": ("e.json", b""),
        },
        {"a": ("adapter_model.safetensors", WEIGHTS), "b": ("adapter_model.pt", b"x")},
    ],
)
async def test_a_wrong_set_of_files_is_refused(parts: dict[str, Any]) -> None:
    response = await put(files=parts) if parts else await put()
    assert response.status_code == 400, response.text
    assert response.json()["error"]["code"] == "invalid_adapter"


async def test_broken_multipart_and_other_types_are_refused() -> None:
    for kind, content in [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"--c\r\nx"),
        ("multipart/form-data; boundary=b", b""),
        ("application/json", b"{}"),
        ("text/plain", WEIGHTS),
    ]:
        response = await put(content=content, headers={"content-type": kind})
        assert response.status_code == 400, (kind, response.text)


SMALL = DoorLimits(
    adapter=replace(DoorLimits().adapter, max_file_bytes=1000, max_config_bytes=1000)
)


async def test_an_upload_over_the_limit_stops_early() -> None:
    num_sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal num_sent
        while True:
            num_sent += 1000
            yield b"x" * 1000

    raw = {"content-type": "application/octet-stream"}
    response = await put(content=endless(), headers=raw, limits=SMALL)
    assert (response.status_code, response.json()["error"]["code"]) == (413, "adapter_too_large")
    assert num_sent <= 2000
    big = files(WEIGHTS + bytes(100_000))
    assert (await put(files=big, limits=SMALL)).status_code == 413


@pytest.mark.parametrize("name", ["-x", ".x", "a b", "x" * 97, "a@1", "a:b", "%00", "é"])
async def test_a_bad_name_is_refused(name: str) -> None:
    response = await put(path=f"/v1/adapters/{name}", files=files())
    assert (response.status_code, response.json()["error"]["param"]) == (400, "name")
    async with make_client(make_door()) as client:
        assert (await client.get(f"/v1/adapters/{name}")).status_code == 404
        assert (await client.delete(f"/v1/adapters/{name}")).status_code == 404


async def test_adapters_come_in_pages() -> None:
    store = MemoryStore()
    for name in "abc":
        assert (await put(store, f"/v1/adapters/{name}", files=files())).status_code == 200
    async with make_client(make_door(store=store)) as client:
        first = (await client.get("/v1/adapters?limit=2")).json()
        second = (await client.get(f"/v1/adapters?limit=2&after={first['last_id']}")).json()
        bad = await client.get("/v1/adapters?after=%20")
    assert [a["name"] for a in first["data"] + second["data"]] == ["a", "b", "c"]
    assert (first["has_more"], second["has_more"], bad.status_code) == (True, False, 400)
