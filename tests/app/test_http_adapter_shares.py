"""Sharing over HTTP: who may share, what a reader may do, and how it ends."""

from typing import Any

import httpx
import pytest

from adapter_cache.store import MemoryStore
from app.door import Door
from contracts.access import Caller, Scope
from contracts.adapters import DEFAULT_TENANT, PUBLIC, TenantId
from contracts.errors import Unauthorized
from tests.app.bodies import TEXT
from tests.app.parts import make_client, make_door, publish

SHARE = "/v1/adapters/mine/shares/acme"
PUBLIC_PATH = "/v1/adapters/mine/public"


class ByName:
    """The key is the tenant's name; it may do everything, with `only` adapters if any."""

    only: frozenset[str] | None = None

    async def caller(self, authorization: str | None) -> Caller:
        if authorization is None:
            raise Unauthorized("none")
        return Caller("k", TenantId(authorization), frozenset(Scope), self.only)


async def make_shared() -> tuple[Door, MemoryStore]:
    store = MemoryStore()
    for seed in (1, 2):
        await publish(store, "mine", seed=seed)
    return make_door(store=store, auth=ByName()), store


async def call(door: Door, tenant: str, method: str, path: str, **options: Any) -> httpx.Response:
    async with make_client(door) as client:
        return await client.request(method, path, headers={"authorization": tenant}, **options)


async def completion(door: Door, tenant: str, model: str) -> int:
    body = TEXT | {"model": model}
    return (await call(door, tenant, "POST", "/v1/completions", json=body)).status_code


async def test_a_shared_adapter_answers_its_readers_and_nobody_else() -> None:
    door, _ = await make_shared()
    model = "tiny:default/mine"
    assert [await completion(door, who, model) for who in ("acme", "eve")] == [404, 404]
    for _ in range(2):
        made = await call(door, "default", "PUT", SHARE)
        assert (made.status_code, made.json()) == (
            200,
            {"name": "mine", "public": False, "shared_with": ["acme"]},
        )
    assert [await completion(door, who, model) for who in ("acme", "eve")] == [200, 404]
    assert await completion(door, "acme", f"{model}@1") == 200
    assert await completion(door, "acme", f"{model}@9") == 404
    shown = (await call(door, "acme", "GET", f"/v1/models/{model}")).json()
    assert (shown["id"], shown["owned_by"]) == (model, "default")
    ended = await call(door, "default", "DELETE", SHARE)
    assert ended.json() == {"name": "mine", "public": False, "shared_with": []}
    assert await completion(door, "acme", model) == 404


async def test_a_public_adapter_answers_everybody() -> None:
    door, _ = await make_shared()
    made = await call(door, "default", "PUT", PUBLIC_PATH)
    assert made.json() == {"name": "mine", "public": True, "shared_with": []}
    assert await completion(door, "eve", "tiny:default/mine") == 200
    await call(door, "default", "PUT", SHARE)
    await call(door, "default", "DELETE", PUBLIC_PATH)
    assert [await completion(door, who, "tiny:default/mine") for who in ("acme", "eve")] == [
        200,
        404,
    ]


async def test_the_owner_sees_who_may_use_an_adapter() -> None:
    door, _ = await make_shared()
    for path in (SHARE, "/v1/adapters/mine/shares/zeta", PUBLIC_PATH):
        await call(door, "default", "PUT", path)
    shown = (await call(door, "default", "GET", "/v1/adapters/mine")).json()
    assert (shown["public"], shown["shared_with"]) == (True, ["acme", "zeta"])


async def test_a_tenant_may_be_called_public() -> None:
    door, store = await make_shared()
    await call(door, "default", "PUT", "/v1/adapters/mine/shares/public")
    assert await store.shares(DEFAULT_TENANT, "mine") == {"public"}
    assert await completion(door, "eve", "tiny:default/mine") == 404


async def test_a_reader_only_reads() -> None:
    door, store = await make_shared()
    await call(door, "default", "PUT", SHARE)
    before = await store.versions(DEFAULT_TENANT, "mine")
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/rollback"),
        ("POST", "/prefetch"),
        ("PUT", "/pin"),
        ("DELETE", "/pin"),
        ("PUT", "/shares/eve"),
        ("DELETE", "/shares/eve"),
        ("PUT", "/public"),
    ]:
        for name in ("mine", "default%2Fmine"):
            answer = await call(door, "acme", method, f"/v1/adapters/{name}{path}")
            assert answer.status_code in (404, 405), (method, path)
    assert (await call(door, "acme", "GET", "/v1/adapters")).json()["data"] == []
    assert await store.versions(DEFAULT_TENANT, "mine") == before
    assert await store.shares(DEFAULT_TENANT, "mine") == {"acme"}


async def test_a_delete_ends_what_was_shared() -> None:
    door, store = await make_shared()
    await call(door, "default", "PUT", SHARE)
    await call(door, "default", "DELETE", "/v1/adapters/mine")
    assert await completion(door, "acme", "tiny:default/mine") == 404
    await publish(store, "mine", seed=3)
    assert await completion(door, "acme", "tiny:default/mine") == 404


async def test_a_keys_list_spells_a_shared_adapter_with_its_owner() -> None:
    door, store = await make_shared()
    await store.share(DEFAULT_TENANT, "mine", PUBLIC)
    door.auth = listed = ByName()
    listed.only = frozenset({"default/mine"})
    assert await completion(door, "acme", "tiny:default/mine") == 200
    listed.only = frozenset({"mine"})
    assert await completion(door, "acme", "tiny:default/mine") == 404


@pytest.mark.parametrize(
    ("path", "status", "param"),
    [
        ("/v1/adapters/mine/shares/default", 400, "tenant"),
        ("/v1/adapters/mine/shares/*", 400, "tenant"),
        ("/v1/adapters/mine/shares/a%20b", 400, "tenant"),
        ("/v1/adapters/mine/shares/" + "x" * 65, 400, "tenant"),
        ("/v1/adapters/nobody/shares/acme", 404, "model"),
        ("/v1/adapters/a b/shares/acme", 404, "model"),
        ("/v1/adapters/nobody/public", 404, "model"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_what_cannot_be_shared_is_refused(
    method: str, path: str, status: int, param: str
) -> None:
    door, store = await make_shared()
    answer = await call(door, "default", method, path)
    assert (answer.status_code, answer.json()["error"]["param"]) == (status, param)
    assert await store.shares(DEFAULT_TENANT, "mine") == frozenset()
