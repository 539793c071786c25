"""Every HTTP route by every kind of caller. The routes are read from the OpenAPI document, so that
a new one is here at once, and fails until it says which scope it asks for.
"""

import json
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest

from adapter_cache.store import MemoryStore
from app.auth import KeyAuthoriser
from app.door import Door
from app.door_metrics import DoorMetrics
from app.http_api import create_app
from app.keyring import CachedKeyring, MemoryKeys
from contracts.access import Scope
from contracts.adapters import DEFAULT_TENANT, TenantId
from tests.app.bodies import CHAT, TEXT
from tests.app.keys import Clock, draft, make_issuer
from tests.app.parts import make_client, make_door, publish

OPEN = {"GET /healthz", "GET /readyz"}
"""Routes for probes, which have no key. Everything else needs one."""

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": TEXT,
    "/v1/embeddings": {"input": "hi"},
    "/v1/tokenize": {"prompt": "hi"},
}
"""What takes a request to the look-up of its adapter; without, it is refused before."""

OTHER = TenantId("other")
THEIRS, NOBODY = "theirs", "nobody"


@dataclass(frozen=True)
class Operation:
    method: str
    path: str
    scopes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    def url(self, adapter: str) -> str:
        """The path with every parameter filled in, those that name an adapter with `adapter`."""
        values = {"name": adapter, "model_id": f"tiny:{DEFAULT_TENANT}/{adapter}"}
        parts = [part.partition("}") for part in self.path.split("{")]
        return "".join(
            [
                parts[0][0],
                *(values.get(name.split(":")[0], "x") + rest for name, _, rest in parts[1:]),
            ]
        )

    def options(self, adapter: str) -> dict[str, Any]:
        """A body, if it takes one."""
        if self.method == "GET":
            return {}
        body = BODIES.get(self.path, {})
        model = {"model": f"tiny:{DEFAULT_TENANT}/{adapter}"} if body else {}
        return {"content": json.dumps(body | model)}


def operations() -> list[Operation]:
    paths = create_app(cast(Door, SimpleNamespace(metrics=DoorMetrics()))).openapi()["paths"]
    return [
        Operation(
            method.upper(),
            path,
            tuple(
                scope
                for entry in about.get("security", [])
                for scopes in entry.values()
                for scope in scopes
            ),
        )
        for path, methods in paths.items()
        for method, about in methods.items()
    ]


OPERATIONS = operations()
CLOSED = [operation for operation in OPERATIONS if str(operation) not in OPEN]


class Site:
    """A whole door with real keys, and an adapter of tenant `default`."""

    def __init__(self) -> None:
        self.keys, self.clock, self.store = MemoryKeys(), Clock(), MemoryStore()
        self.issuer = make_issuer(self.keys, self.clock)
        ring = CachedKeyring(self.keys, ttl_s=3, stale_max_s=60, unix_clock=self.clock)
        self.door = make_door(store=self.store, auth=KeyAuthoriser(ring))

    async def key(self, tenant: str, *scopes: Scope) -> str:
        return (await self.issuer.create(draft(tenant, *scopes)))[1]

    async def bad_keys(self) -> dict[str, str]:
        """Authorization headers that must all get the same answer."""
        expired = draft("default", *Scope, expires_at_s=self.clock.now_s)
        revoked, revoked_text = await self.issuer.create(draft("default", *Scope))
        await self.issuer.revoke(revoked.key_id)
        rotated, old_text = await self.issuer.create(draft("default", *Scope))
        await self.issuer.rotate(rotated.key_id, 0)
        good = await self.key("default", *Scope)
        return {
            "garbage": "Bearer garbage",
            "not ascii": "Bearer \xe9\xff",
            "unknown": f"Bearer flora-{'f' * 16}-{'s' * 43}",
            "wrong secret": f"Bearer {good[:-1]}{'A' if good[-1] != 'A' else 'B'}",
            "expired": f"Bearer {(await self.issuer.create(expired))[1]}",
            "revoked": f"Bearer {revoked_text}",
            "rotated": f"Bearer {old_text}",
        }


async def make_site() -> Site:
    site = Site()
    await publish(site.store, THEIRS)
    return site


async def ask(
    client: httpx.AsyncClient, operation: Operation, header: str | None, adapter: str = THEIRS
) -> httpx.Response:
    headers = [] if header is None else [(b"authorization", header.encode("latin-1"))]
    return await client.request(
        operation.method, operation.url(adapter), headers=headers, **operation.options(adapter)
    )


def test_every_route_says_its_one_scope() -> None:
    assert [str(each) for each in CLOSED if len(each.scopes) != 1] == []
    assert {str(each) for each in OPERATIONS if not each.scopes} == OPEN
    assert {each.scopes[0] for each in CLOSED} == {str(scope) for scope in Scope}


@pytest.mark.parametrize("operation", CLOSED, ids=str)
async def test_without_a_key_that_opens_nothing_is_told(operation: Operation) -> None:
    site = await make_site()
    async with make_client(site.door) as client:
        for header in (None, "", "Bearer", "Basic eDp5"):
            answer = await ask(client, operation, header)
            assert answer.status_code == 401, (header, answer.text)
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.headers["www-authenticate"] == "Bearer"
        answers = {
            what: await ask(client, operation, header)
            for what, header in (await site.bad_keys()).items()
        }
    assert {what: answer.status_code for what, answer in answers.items()} == dict.fromkeys(
        answers, 401
    )
    # One answer: it does not say what is wrong with the key.
    assert len({answer.text for answer in answers.values()}) == 1


@pytest.mark.parametrize("operation", CLOSED, ids=str)
async def test_a_scope_opens_what_is_its_own(operation: Operation) -> None:
    site = await make_site()
    [needed] = operation.scopes
    others = [scope for scope in Scope if scope not in (needed, Scope.ADMIN)]
    async with make_client(site.door) as client:
        lacking = await site.key("default", *others)
        answer = await ask(client, operation, f"Bearer {lacking}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_scope")
        assert await site.store.versions(DEFAULT_TENANT, THEIRS)
        for scope in (Scope(needed), Scope.ADMIN):
            opening = await site.key("default", scope)
            answer = await ask(client, operation, f"Bearer {opening}", NOBODY)
            assert answer.status_code not in (401, 403, 500)


@pytest.mark.parametrize("operation", CLOSED, ids=str)
async def test_anothers_adapter_is_as_absent_as_none(operation: Operation) -> None:
    site = await make_site()
    before = await site.store.versions(DEFAULT_TENANT, THEIRS)
    async with make_client(site.door) as client:
        key = f"Bearer {await site.key(OTHER, *Scope)}"
        theirs, nobody = [await ask(client, operation, key, name) for name in (THEIRS, NOBODY)]
        assert theirs.status_code == nobody.status_code
        assert theirs.status_code < 500, theirs.text
        if operation.path != "/metrics":
            assert theirs.text.replace(THEIRS, NOBODY) == nobody.text
        if THEIRS not in operation.url(THEIRS) + str(operation.options(THEIRS)):
            assert THEIRS not in theirs.text
    assert await site.store.versions(DEFAULT_TENANT, THEIRS) == before
    assert await site.store.shares(DEFAULT_TENANT, THEIRS) == frozenset()
    assert await site.store.pins(DEFAULT_TENANT, THEIRS) == frozenset()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_the_bodies_of_this_table_reach_the_look_up(path: str) -> None:
    """Else the comparison above would compare refusals of the body."""
    site = await make_site()
    [operation] = [each for each in CLOSED if each.path == path]
    async with make_client(site.door) as client:
        key = f"Bearer {await site.key(OTHER, Scope.GENERATE)}"
        answer = await ask(client, operation, key)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_probes_need_no_key() -> None:
    site = await make_site()
    async with make_client(site.door) as client:
        for path in ("/healthz", "/readyz"):
            assert (await client.get(path)).status_code == 200
