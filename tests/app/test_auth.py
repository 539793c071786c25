"""Credentials: one answer for every key that does not open, and scopes."""

import pytest

from app.auth import KeyAuthoriser, OpenToAll, require_scope
from contracts.access import LOCAL_CALLER, Caller, Scope
from contracts.adapters import TenantId
from contracts.errors import Forbidden, Unauthorized
from tests.app.parts import make_client, make_door

READER = Caller("k1", TenantId("acme"), frozenset({Scope.ADAPTERS_READ}))


class OneKey:
    """A keyring with the key "right"."""

    async def find(self, secret: str) -> Caller | None:
        return READER if secret == "right" else None


@pytest.mark.parametrize("header", ["Bearer right", "bearer right", "Bearer  right "])
async def test_a_known_key_gives_its_caller(header: str) -> None:
    assert await KeyAuthoriser(OneKey()).caller(header) is READER


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "right", "Basic right"])
async def test_without_a_bearer_key_nobody_calls(header: str | None) -> None:
    with pytest.raises(Unauthorized, match="Send an API key"):
        await KeyAuthoriser(OneKey()).caller(header)


async def test_an_unknown_key_is_not_repeated() -> None:
    with pytest.raises(Unauthorized) as raised:
        await KeyAuthoriser(OneKey()).caller("Bearer wrong-secret")
    assert "wrong-secret" not in str(raised.value)


async def test_an_open_server_takes_everybody() -> None:
    assert await OpenToAll().caller("Bearer anything") is LOCAL_CALLER
    assert all(LOCAL_CALLER.may(scope) for scope in Scope)


def test_a_scope_must_be_the_keys() -> None:
    require_scope(READER, Scope.ADAPTERS_READ)
    with pytest.raises(Forbidden, match="generate"):
        require_scope(READER, Scope.GENERATE)


async def test_a_route_asks_for_a_key_before_it_reads_the_body() -> None:
    door = make_door(auth=KeyAuthoriser(OneKey()))
    async with make_client(door) as client:
        refused = await client.post("/v1/chat/completions", content=b"not json")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["error"]["type"] == "authentication_error"
        key = {"authorization": "Bearer right"}
        lacking = await client.post("/v1/chat/completions", content=b"not json", headers=key)
        assert (lacking.status_code, lacking.json()["error"]["code"]) == (403, "insufficient_scope")
        assert (await client.get("/v1/adapters", headers=key)).status_code == 200
