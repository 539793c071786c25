"""Rollback, prefetch and pins over HTTP, and what is refused of them."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from adapter_cache.store import MemoryStore
from app.http_adapter_versions import RollbackBody
from app.prefetch import Prefetcher
from contracts.adapters import DEFAULT_TENANT, AdapterRef, TenantId
from contracts.errors import NotReady, StoreUnavailable
from tests.app.parts import CountingReplica, make_client, make_door, publish

PATH = "/v1/adapters/mine"


async def make_store(num_versions: int = 3) -> MemoryStore:
    store = MemoryStore()
    for seed in range(num_versions):
        await publish(store, "mine", seed=seed)
    await publish(store, "foreign", TenantId("other"))
    return store


async def call(
    method: str, path: str, store: MemoryStore | None = None, **options: Any
) -> httpx.Response:
    async with make_client(make_door(store=store or await make_store())) as client:
        return await client.request(method, path, **options)


async def test_a_rollback_is_a_new_version_with_the_old_bytes() -> None:
    store = await make_store()
    digests = [m.key.digest for m in await store.versions(DEFAULT_TENANT, "mine")]
    back = (await call("POST", f"{PATH}/rollback", store)).json()
    assert (back["version"], back["digest"], back["created"]) == (4, digests[1], 1_700_000_000)
    far = (await call("POST", f"{PATH}/rollback", store, json={"version": 1})).json()
    assert (far["version"], far["digest"]) == (5, digests[0])
    again = (await call("POST", f"{PATH}/rollback", store, json={"version": 1})).json()
    assert again == far
    [key] = await store.resolve([AdapterRef(DEFAULT_TENANT, "mine")])
    assert key is not None
    assert key.digest == digests[0]


async def test_versions_say_which_is_current_and_which_are_pinned() -> None:
    store = await make_store()
    pinned = await call("PUT", f"{PATH}/pin?version=1", store)
    assert (pinned.status_code, pinned.json()["version"], pinned.json()["pinned"]) == (200, 1, True)
    assert (await call("PUT", f"{PATH}/pin", store)).json()["version"] == 3
    shown = (await call("GET", PATH, store)).json()
    told = [(v["version"], v["current"], v["pinned"]) for v in shown["versions"]]
    assert told == [(1, False, True), (2, False, False), (3, True, True)]
    assert shown["version"] == 3
    freed = (await call("DELETE", f"{PATH}/pin?version=1", store)).json()
    assert (freed["version"], freed["pinned"]) == (1, False)
    again = await call("DELETE", f"{PATH}/pin?version=1", store)
    assert again.status_code == 200
    assert await store.pins(DEFAULT_TENANT, "mine") == {3}


async def test_a_prefetch_tells_the_replicas() -> None:
    store, replica = await make_store(), CountingReplica()
    async with make_client(make_door(replica, store)) as client:
        answers = [
            await client.post(f"{PATH}/prefetch"),
            await client.post(f"{PATH}/prefetch?version=2"),
        ]
        await asyncio.sleep(0)
    assert [a.status_code for a in answers] == [202, 202]
    assert [a.json()["version"] for a in answers] == [3, 2]
    told = [key.digest for keys in replica.prefetched for key in keys]
    assert told == [a.json()["digest"] for a in answers]


async def test_too_many_prefetches_are_refused_for_now() -> None:
    door = make_door(store=await make_store())
    model = door.models["tiny"]
    model.prefetcher = Prefetcher(model.dispatcher, max_calls=0)
    async with make_client(door) as client:
        answer = await client.post(f"{PATH}/prefetch")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"


CALLS = [("POST", "rollback"), ("POST", "prefetch"), ("PUT", "pin"), ("DELETE", "pin")]


@pytest.mark.parametrize(("method", "action"), CALLS)
@pytest.mark.parametrize("name", ["nobody", "foreign", "a b", "x" * 97])
async def test_unknown_is_404_whosever_it_is(method: str, action: str, name: str) -> None:
    store = await make_store()
    answer = await call(method, f"/v1/adapters/{name}/{action}", store)
    assert (answer.status_code, answer.json()["error"]) == (
        404,
        {
            "message": f"The model '{name}' does not exist.",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        },
    )
    assert len(await store.versions(TenantId("other"), "foreign")) == 1


@pytest.mark.parametrize(("method", "action"), CALLS)
async def test_an_unknown_version_is_404(method: str, action: str) -> None:
    in_body = action == "rollback"
    options: dict[str, Any] = {"json" if in_body else "params": {"version": 9}}
    answer = await call(method, f"{PATH}/{action}", **options)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "mine@9" in answer.json()["error"]["message"]


async def test_nothing_to_go_back_to_is_not_an_unknown_adapter() -> None:
    answer = await call("POST", f"{PATH}/rollback", await make_store(1))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "version")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"3", None),
        (b"[]", None),
        (b'{"version": "1"}', "version"),
        (b'{"version": 1.0}', "version"),
        (b'{"version": true}', "version"),
        (b'{"version": 0}', "version"),
        (b'{"version": -1}', "version"),
        (b'{"version": 1000000000}', "version"),
        (b'{"verison": 1}', "verison"),
        (b'{"version": 1, "to": 2}', "to"),
    ],
)
async def test_a_bad_rollback_changes_nothing(body: bytes, param: str | None) -> None:
    store = await make_store()
    answer = await call("POST", f"{PATH}/rollback", store, content=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert len(await store.versions(DEFAULT_TENANT, "mine")) == 3


async def test_a_rollback_body_has_a_bound() -> None:
    answer = await call("POST", f"{PATH}/rollback", content=b" " * 2000)
    assert answer.status_code == 413
    assert RollbackBody.model_validate_json(json.dumps({"version": None})).version is None


@pytest.mark.parametrize(("method", "action"), CALLS[1:])
@pytest.mark.parametrize(
    "query",
    ["version=0", "version=-1", "version=1.0", "version=01", "version=%201", "version=",
     "version=1%0A", "version=x", "verison=1", "version=1&version=2", "version=1&other=2"],
)  # fmt: skip
async def test_a_bad_query_changes_nothing(method: str, action: str, query: str) -> None:
    store = await make_store()
    answer = await call(method, f"{PATH}/{action}?{query}", store)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert await store.pins(DEFAULT_TENANT, "mine") == frozenset()


async def test_other_methods_are_named_as_such() -> None:
    for method, action in [("GET", "rollback"), ("PUT", "prefetch"), ("POST", "pin")]:
        assert (await call(method, f"{PATH}/{action}")).status_code == 405


class Down(MemoryStore):
    async def rollback(self, *_: object) -> None:
        raise StoreUnavailable("down")

    async def pin(self, ref: AdapterRef) -> None:
        raise StoreUnavailable("down")


async def test_a_store_that_is_down_says_when_to_come_back() -> None:
    for answer in (
        await call("POST", f"{PATH}/rollback", Down()),
        await call("PUT", f"{PATH}/pin", Down()),
    ):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


class Rebuilding:
    async def require_whole(self) -> None:
        raise NotReady("The adapter registry is being rebuilt.")


async def test_while_the_registry_is_rebuilt_nothing_is_called_unknown() -> None:
    store = await make_store()
    async with make_client(make_door(store=store, guard=Rebuilding())) as client:
        asked = [await client.request(m, f"/v1/adapters/new/{action}") for m, action in CALLS]
        asked += [await client.request(m, "/v1/adapters/new") for m in ("GET", "DELETE")]
        asked += [await client.get(p) for p in ("/v1/models/tiny:new", "/v1/models", "/readyz")]
        asked.append(await client.get("/v1/adapters"))
        body = {"model": "tiny:new", "prompt": "x", "max_tokens": 1}
        asked.append(await client.post("/v1/completions", json=body))
        known = await client.post("/v1/completions", json={**body, "model": "tiny:mine"})
        asked.append(await client.get(PATH))
    assert {(a.status_code, a.json()["error"]["code"]) for a in asked} == {(503, "not_ready")}
    assert {a.headers["retry-after"] for a in asked} == {"1"}
    assert known.status_code == 200
