"""GET /v1/usage: a tenant sees what it used, an administrator what all did."""

import httpx
import pytest

from app.auth import Authoriser
from app.recent_usage import MemoryPages
from app.usage_log import UsageRecord
from contracts.access import Caller, Scope
from contracts.adapters import TenantId
from tests.app.parts import NOW_S, make_client, make_door

READ = frozenset({Scope.ADAPTERS_READ})
ADMIN = frozenset({Scope.ADMIN})


class As(Authoriser):
    def __init__(self, tenant: str, scopes: frozenset[Scope]) -> None:
        self._caller = Caller("k", TenantId(tenant), scopes)

    async def caller(self, authorization: str | None) -> Caller:
        return self._caller


def make_record(tenant: str, model: str, age_s: float = 60) -> UsageRecord:
    return UsageRecord(NOW_S - age_s, tenant, "k", "r", model, "", "stop", 10, 4, 3, 0.1)


RECORDS = [
    make_record("acme", "tiny:a", age_s=30 * 3600),
    make_record("globex", "tiny"),
    make_record("acme", "tiny:a"),
    make_record("acme", "tiny:b"),
]


async def ask(tenant: str, scopes: frozenset[Scope], query: str = "") -> httpx.Response:
    door = make_door(usage=MemoryPages(RECORDS), auth=As(tenant, scopes))
    async with make_client(door) as client:
        return await client.get(f"/v1/usage{query}")


async def test_a_tenant_sees_its_own_alone() -> None:
    answer = (await ask("acme", READ)).json()
    assert answer["data"] == [
        {
            "tenant": "acme",
            "model": None,
            "requests": 2,
            "prompt_tokens": 20,
            "cached_tokens": 8,
            "generated_tokens": 6,
        }
    ]
    assert (answer["tenant"], answer["complete"]) == ("acme", True)
    assert answer["until"] - 25 * 3600 < answer["since"] <= answer["until"] - 24 * 3600


@pytest.mark.parametrize("query", ["", "&by=model", "&hours=720"])
async def test_anothers_usage_is_as_absent_as_nobodys(query: str) -> None:
    theirs, nobodys = [
        await ask("acme", READ, f"?tenant={tenant}{query}") for tenant in ("globex", "nobody")
    ]
    assert theirs.text == nobodys.text
    assert theirs.json()["data"] == []


async def test_an_administrator_sees_all_or_one() -> None:
    answer = (await ask("ops", ADMIN, "?by=model&hours=48")).json()
    assert [(row["tenant"], row["model"], row["requests"]) for row in answer["data"]] == [
        ("acme", "tiny:a", 2),
        ("acme", "tiny:b", 1),
        ("globex", "tiny", 1),
    ]
    one = (await ask("ops", ADMIN, "?tenant=globex")).json()
    assert [row["tenant"] for row in one["data"]] == ["globex"]


async def test_a_page_is_the_rows_with_most() -> None:
    answer = (await ask("ops", ADMIN, "?limit=1")).json()
    assert ([row["tenant"] for row in answer["data"]], answer["has_more"]) == (["acme"], True)


@pytest.mark.parametrize("query", ["?hours=0", "?hours=721", "?by=key", "?limit=0", "?hours=x"])
async def test_a_bad_question_is_refused_by_name(query: str) -> None:
    answer = await ask("acme", READ, query)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query[1:].partition("=")[0]


async def test_without_records_there_is_no_usage() -> None:
    door = make_door()
    door.usage = None
    async with make_client(door) as client:
        answer = await client.get("/v1/usage")
    assert answer.status_code == 400
    assert "usage.enabled" in answer.json()["error"]["message"]
