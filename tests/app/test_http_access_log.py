"""One line, one count and one id for each request over HTTP, whatever became of it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapter_cache.store import MemoryStore
from app.door import Door
from app.http_api import create_app
from contracts.access import Caller, Scope
from contracts.adapters import TenantId
from contracts.errors import Unauthorized
from tests.app.access_lines import lines as lines
from tests.app.parts import CountingReplica, make_client, make_door, publish
from tests.app.serving import serving

CALLER = Caller("key7", TenantId("acme"), frozenset(Scope))
BODY = {"model": "tiny", "prompt": "abc", "max_tokens": 4}


class OneKey:
    async def caller(self, authorization: str | None) -> Caller:
        if authorization != "Bearer secret":
            raise Unauthorized("no")
        return CALLER


async def until(done: Any) -> None:
    async with asyncio.timeout(5):
        while not done():  # noqa: ASYNC110  # a line makes no sound
            await asyncio.sleep(0.001)


def counted(door: Door) -> dict[tuple[str, str], float]:
    text = door.metrics.render().decode()
    return {
        (s.labels["route"], s.labels["status"]): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == "flora_api_requests_total"
    }


async def test_an_answer_has_its_senders_id_and_a_line_with_what_it_used(lines: list[Any]) -> None:
    door = make_door(auth=OneKey())
    headers = {"authorization": "Bearer secret", "x-request-id": "mine-1"}
    async with make_client(door) as client:
        answer = await client.post("/v1/completions", json=BODY, headers=headers)
    assert answer.headers["x-request-id"] == "mine-1"
    (line,) = lines
    assert (line.route, line.status, line.protocol) == ("POST /v1/completions", "200", "http")
    assert line.answer_id == answer.json()["id"]
    assert (line.model, line.outcome) == ("tiny", "length")
    assert (line.prompt_tokens, line.cached_tokens, line.generated_tokens) == (3, 3, 4)
    assert line.duration_s > 0
    assert counted(door) == {("POST /v1/completions", "200"): 1}


async def test_an_id_that_will_not_do_is_replaced(lines: list[Any]) -> None:
    async with make_client(make_door()) as client:
        for sent in ("x" * 200, "a b", ""):
            answer = await client.get("/healthz", headers={"x-request-id": sent})
            assert len(answer.headers["x-request-id"]) == 32
    assert len({line.levelname for line in lines} | {"DEBUG"}) == 1


@pytest.mark.parametrize(("sent", "num_ours"), [("mine-1", 0), ("not mine", 1)])
async def test_behind_serve_an_answer_has_a_good_id_once(sent: str, num_ours: int) -> None:
    door = make_door()
    door.access.is_behind_serve = True
    async with make_client(door) as client:
        answer = await client.get("/healthz", headers={"x-request-id": sent})
    assert len(answer.headers.get_list("x-request-id")) == num_ours


@pytest.mark.parametrize(
    ("method", "path", "route", "status"),
    [
        ("GET", "/nowhere/canary", "none", 404),
        ("DELETE", "/healthz", "none", 405),
        ("GET", "/v1/models/canary", "GET /v1/models/{model_id:path}", 401),
        ("POST", "/v1/completions", "POST /v1/completions", 401),
    ],
)
async def test_refusals_are_counted_by_their_route_as_it_is_written(
    method: str, path: str, route: str, status: int, lines: list[Any]
) -> None:
    door = make_door(auth=OneKey())
    async with make_client(door) as client:
        answer = await client.request(method, path)
    assert answer.status_code == status
    assert "x-request-id" in answer.headers
    assert counted(door) == {(route, str(status)): 1}
    assert [(line.route, line.status) for line in lines] == [(route, str(status))]


async def test_a_bug_has_an_id_and_a_line_too(lines: list[Any]) -> None:
    class Broken(MemoryStore):
        async def page(self, *_: object, **__: object) -> Any:
            raise RuntimeError("bug")

    door = make_door(store=Broken())
    async with make_client(door) as client:
        answer = await client.get("/v1/adapters", headers={"x-request-id": "mine-2"})
    assert (answer.status_code, answer.headers["x-request-id"]) == (500, "mine-2")
    assert [line.status for line in lines] == ["500"]


async def test_a_client_that_leaves_a_stream_ends_its_line(lines: list[Any]) -> None:
    door = make_door(CountingReplica(step_s=0.01))
    body = {**BODY, "max_tokens": 400, "stream": True}
    async with serving(create_app(door)) as url, httpx.AsyncClient(base_url=url) as client:
        async with client.stream("POST", "/v1/completions", json=body) as answer:
            async for _ in answer.aiter_lines():
                break
        await until(lambda: lines)
    (line,) = lines
    assert line.outcome == "closed"
    assert 0 < line.generated_tokens < 400


async def test_each_of_many_at_a_time_has_its_own_numbers(lines: list[Any]) -> None:
    store = MemoryStore()
    await publish(store, "a")
    door = make_door(CountingReplica(step_s=0.001), store)
    async with make_client(door) as client:
        bodies = [{**BODY, "max_tokens": 1 + n, "model": f"tiny{':a' * (n % 2)}"} for n in range(8)]
        sent = [
            client.post("/v1/completions", json=body, headers={"x-request-id": f"r{n}"})
            for n, body in enumerate(bodies)
        ]
        answers = await asyncio.gather(*sent)
    by_answer = {line.answer_id: line for line in lines}
    for number, answer in enumerate(answers):
        line = by_answer[answer.json()["id"]]
        assert line.generated_tokens == 1 + number
        assert line.model == bodies[number]["model"]
        assert answer.headers["x-request-id"] == f"r{number}"
    assert not door.access._prompts


def test_other_scopes_pass_through() -> None:
    door: Any = SimpleNamespace(access=None)
    app = create_app(door)
    seen: list[str] = []

    async def send(message: Any) -> None:
        seen.append(message["type"])

    async def receive() -> Any:
        return {"type": "lifespan.startup" if not seen else "lifespan.shutdown"}

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert seen == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
