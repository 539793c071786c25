"""Listing models, and the two health routes."""

import pytest

from adapter_cache.store import MemoryStore
from contracts.adapters import TenantId
from contracts.errors import StoreUnavailable
from tests.app.parts import CountingReplica, make_client, make_door, publish


async def make_store(*names: str) -> MemoryStore:
    store = MemoryStore()
    for name in names:
        await publish(store, name)
    await publish(store, "foreign", TenantId("other"))
    return store


async def test_the_base_comes_first_then_adapters_by_name() -> None:
    async with make_client(make_door(store=await make_store("b", "a"))) as client:
        page = (await client.get("/v1/models")).json()
    assert [m["id"] for m in page["data"]] == ["tiny", "tiny:a", "tiny:b"]
    assert (page["object"], page["has_more"], page["last_id"]) == ("list", False, "tiny:b")
    assert {m["object"] for m in page["data"]} == {"model"}
    assert page["data"][1]["parent"] == "tiny"


@pytest.mark.parametrize("limit", [1, 2, 3, 7])
async def test_pages_give_each_model_once(limit: int) -> None:
    names = [f"a{i}" for i in range(6)]
    seen: list[str] = []
    async with make_client(make_door(store=await make_store(*names))) as client:
        after, more = "", True
        while more:
            url = f"/v1/models?limit={limit}&after={after}"
            page = (await client.get(url)).json()
            assert len(page["data"]) <= limit
            seen += [m["id"] for m in page["data"]]
            after, more = page["last_id"], page["has_more"]
    assert seen == ["tiny", *(f"tiny:{name}" for name in names)]


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x"])
async def test_a_bad_limit_is_400(query: str) -> None:
    async with make_client(make_door()) as client:
        response = await client.get(f"/v1/models?{query}")
    assert (response.status_code, response.json()["error"]["param"]) == (400, "limit")


async def test_after_must_name_a_model() -> None:
    async with make_client(make_door()) as client:
        assert (await client.get("/v1/models?after=nonsense")).status_code == 404


async def test_one_model() -> None:
    async with make_client(make_door(store=await make_store("a"))) as client:
        ids = ["tiny", "tiny:a", "tiny:a@1", "tiny:b", "tiny:a@2", "tiny:foreign", "other", "a/b"]
        answers = [await client.get(f"/v1/models/{i}") for i in ids]
    assert [a.status_code for a in answers] == [200, 200, 200, 404, 404, 404, 404, 404]
    assert [a.json()["id"] for a in answers[:3]] == ids[:3]
    assert answers[1].json()["root"] == "tiny:a@1"


async def test_health_and_readiness() -> None:
    async with make_client(make_door()) as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200


async def test_an_engine_that_does_not_answer_is_not_ready() -> None:
    replica = CountingReplica()
    replica.ready = False
    async with make_client(make_door(replica)) as client:
        assert (await client.get("/healthz")).status_code == 200
        response = await client.get("/readyz")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "not_ready")
    assert response.headers["retry-after"]


async def test_a_store_that_does_not_answer_is_not_ready() -> None:
    class Down(MemoryStore):
        async def ping(self) -> None:
            raise StoreUnavailable("down")

    async with make_client(make_door(store=Down())) as client:
        assert (await client.get("/readyz")).json()["error"]["code"] == "store_unavailable"
