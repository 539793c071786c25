"""Limits as HTTP shows them: quotas, deadlines, full queues, clients that leave while waiting."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_round_trip import RedisRoundTrip
from app.door import Door, DoorLimits
from app.gather import GatherLimits
from app.http_api import create_app
from app.http_limits import duration
from app.quota_ledger import MemoryLedger
from app.quotas import Quotas
from app.redis_quota import RedisLedger
from app.waiting_room import RoomLimits
from contracts.access import Caller, Quota, Scope
from contracts.adapters import TenantId
from tests.adapter_cache.servers import prefix as prefix
from tests.adapter_cache.servers import valkey_url as valkey_url
from tests.app.parts import BASE, CountingReplica, make_client, make_door
from tests.app.serving import serving

QUOTAS = {
    "few": Quota(requests_per_min=2),
    "tokens": Quota(tokens_per_min=100),
    "one": Quota(max_streams=1),
    "free": Quota(),
    "all": Quota(60, 6000, 4),
}


class ByName:
    """The key is its own name, its tenant too."""

    async def caller(self, authorization: str | None) -> Caller:
        key = (authorization or "Bearer free").split()[1]
        quota = QUOTAS.get(key, Quota())
        return Caller(key, TenantId(key), frozenset({Scope.GENERATE}), quota=quota)


def body(**changes: Any) -> dict[str, Any]:
    return {"model": BASE, "prompt": [1, 2, 3], "max_tokens": 3, **changes}


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def make_limited(replica: CountingReplica | None = None, **changes: Any) -> Door:
    quotas = Quotas(MemoryLedger(60), MemoryLedger(60))
    return make_door(replica, quotas=quotas, auth=ByName(), **changes)


@pytest.mark.parametrize("stream", [False, True])
async def test_an_admitted_answer_says_what_is_left(stream: bool) -> None:
    async with make_client(make_limited()) as client:
        for left in (59, 58):
            answer = await client.post(
                "/v1/completions", json=body(stream=stream), headers=key("all")
            )
            limits = {k: v for k, v in answer.headers.items() if k.startswith("x-ratelimit")}
            assert limits.pop("x-ratelimit-reset-requests")[-1] == "s"
            assert limits.pop("x-ratelimit-reset-tokens")[-1] == "s"
            # A hundred come back a second.
            assert 5988 <= int(limits.pop("x-ratelimit-remaining-tokens")) < 6000
            assert limits == {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": str(left),
                "x-ratelimit-limit-tokens": "6000",
            }
        answer = await client.post("/v1/completions", json=body())
        assert not any(name.startswith("x-ratelimit") for name in answer.headers)


@pytest.mark.parametrize("stream", [False, True])
async def test_over_a_quota_is_429_and_says_when(stream: bool) -> None:
    async with make_client(make_limited()) as client:
        for status in (200, 200, 429):
            answer = await client.post(
                "/v1/completions", json=body(stream=stream), headers=key("few")
            )
            assert answer.status_code == status
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert 25 <= int(answer.headers["retry-after"]) <= 30
        assert answer.headers["x-ratelimit-limit-requests"] == "2"
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"
        assert answer.headers["x-ratelimit-reset-requests"][:2] in {"1m", "59"}
        other = await client.post("/v1/completions", json=body(), headers=key("free"))
        assert other.status_code == 200


async def test_n_and_the_prompt_count_as_tokens() -> None:
    async with make_client(make_limited()) as client:

        async def post(**changes: Any) -> int:
            answer = await client.post(
                "/v1/completions", json=body(**changes), headers=key("tokens")
            )
            return answer.status_code

        assert await post(max_tokens=200, n=2, prompt=[1] * 99) == 400
        assert await post(max_tokens=20, n=4) == 200
        assert await post(max_tokens=20) == 429
        assert await post(max_tokens=5) == 200


async def test_streams_at_a_time(valkey_url: str, prefix: str) -> None:
    clients = RedisClients.connect(valkey_url)
    ledger = RedisLedger(RedisRoundTrip(clients), 60, prefix)
    door = make_door(
        CountingReplica(step_s=0.01), quotas=Quotas(ledger, MemoryLedger(60)), auth=ByName()
    )
    async with make_client(door) as client:

        async def post() -> int:
            return (
                await client.post("/v1/completions", json=body(), headers=key("one"))
            ).status_code

        assert sorted(await asyncio.gather(*(post() for _ in range(4)))) == [200, 429, 429, 429]
        # One after the other they never meet.
        assert [await post() for _ in range(8)] == [200] * 8
    await clients.close()


async def test_one_key_has_one_quota_at_all_doors(valkey_url: str, prefix: str) -> None:
    clients = [RedisClients.connect(valkey_url) for _ in range(3)]
    doors = [
        make_door(
            quotas=Quotas(RedisLedger(RedisRoundTrip(each), 60, prefix), MemoryLedger(60)),
            auth=ByName(),
        )
        for each in clients
    ]
    statuses = []
    for number in range(6):
        async with make_client(doors[number % 3]) as client:
            answer = await client.post("/v1/completions", json=body(), headers=key("few"))
            statuses.append(answer.status_code)
    assert statuses == [200, 200, 429, 429, 429, 429]
    for each in clients:
        await each.close()


async def test_a_caller_may_ask_for_less_time() -> None:
    replica = CountingReplica(step_s=0.05)
    door = make_limited(replica, limits=DoorLimits(request_timeout_s=5))
    async with make_client(door) as client:
        late = await client.post(
            "/v1/completions", json=body(max_tokens=100), headers={"X-Request-Timeout-S": "0.12"}
        )
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        for text in ("0", "-1", "soon", "nan", "inf", "1e999"):
            wrong = await client.post(
                "/v1/completions", json=body(), headers={"X-Request-Timeout-S": text}
            )
            assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_request")
        fine = await client.post(
            "/v1/completions", json=body(max_tokens=1), headers={"X-Request-Timeout-S": "99999"}
        )
        assert fine.status_code == 200
    assert len(replica.cancelled) == 1


async def test_who_expires_while_waiting_never_reaches_the_engine() -> None:
    replica = CountingReplica(step_s=0.02)
    door = make_limited(replica, gather_limits=GatherLimits(max_running=1))
    async with make_client(door) as client:
        long = asyncio.create_task(client.post("/v1/completions", json=body(max_tokens=20)))
        await asyncio.sleep(0.05)
        late = await client.post(
            "/v1/completions", json=body(), headers={"X-Request-Timeout-S": "0.05"}
        )
        assert late.status_code == 504
        assert (await long).status_code == 200
    assert len(replica.groups) == 1


async def test_a_full_room_is_503_before_anything_is_tokenised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica = CountingReplica(step_s=0.02)
    door = make_limited(replica, gather_limits=GatherLimits(1, RoomLimits(8, 1)))
    async with make_client(door) as client:
        held = [asyncio.create_task(client.post("/v1/completions", json=body(max_tokens=20)))]
        await asyncio.sleep(0.05)
        held.append(asyncio.create_task(client.post("/v1/completions", json=body())))
        await asyncio.sleep(0.05)

        async def must_not_run(*_: object, **__: object) -> None:
            raise AssertionError("tokenised")

        with monkeypatch.context() as patch:
            patch.setattr(door.models[BASE].prompts, "encode_text", must_not_run)
            patch.setattr(door.models[BASE].prompts, "encode_chat", must_not_run)
            shed = await client.post("/v1/completions", json=body(prompt="hi"))
            chat = {"model": BASE, "messages": [{"role": "user", "content": "hi"}]}
            shed_chat = await client.post("/v1/chat/completions", json=chat)
        assert (shed.status_code, shed_chat.status_code) == (503, 503)
        assert (shed.json()["error"]["code"], shed.headers["retry-after"]) == ("overloaded", "1")
        # Another tenant's request still finds a place.
        other = client.post("/v1/completions", json=body(), headers=key("other"))
        assert [answer.status_code for answer in await asyncio.gather(*held, other)] == [200] * 3


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, Door, CountingReplica]]:
    replica = CountingReplica(step_s=0.02)
    door = make_limited(replica, gather_limits=GatherLimits(max_running=1))
    async with serving(create_app(door)) as url:
        yield url, door, replica


async def test_a_client_that_leaves_while_it_waits_frees_its_place(
    address: tuple[str, Door, CountingReplica],
) -> None:
    url, door, replica = address
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        first = asyncio.create_task(client.post("/v1/completions", json=body(max_tokens=40)))
        await asyncio.sleep(0.1)
        second = asyncio.create_task(client.post("/v1/completions", json=body()))
        await asyncio.sleep(0.1)
        assert "flora_waiting_requests 1.0" in door.metrics.render().decode()
        second.cancel()
        async with asyncio.timeout(0.5):
            while "flora_waiting_requests 1.0" in door.metrics.render().decode():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await first).status_code == 200
    assert len(replica.groups) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0201, "21ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.9999, "1m0s"),
        (372.25, "6m12.25s"),
    ],
)
def test_durations_are_written_as_openai_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text
