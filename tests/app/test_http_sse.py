"""Streams over a real socket: early events, one write a step, and clients that leave."""

import asyncio
from typing import Any

import httpx
import pytest

from app.http_api import create_app
from tests.app.parts import CountingReplica, make_door
from tests.app.serving import serving


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "tiny", "prompt": "hi", "max_tokens": 100, "stream": True, **changes}


async def wait_until(true: Any) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (a fake has no event to wait for)
            await asyncio.sleep(0.01)


async def test_events_leave_as_they_come() -> None:
    replica = CountingReplica(step_s=0.05)
    async with (
        serving(create_app(make_door(replica))) as url,
        httpx.AsyncClient(base_url=url) as client,
        client.stream("POST", "/v1/completions", json=body(max_tokens=4)) as response,
    ):
        loop = asyncio.get_running_loop()
        times = [loop.time() async for line in response.aiter_lines() if line]
    assert len(times) == 5
    assert times[3] - times[0] > 0.1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_is_cancelled_and_others_go_on(stream: bool) -> None:
    replica = CountingReplica(step_s=0.01)
    async with (
        serving(create_app(make_door(replica, wait_s=0.05))) as url,
        httpx.AsyncClient(base_url=url, timeout=10) as client,
    ):
        stays = asyncio.ensure_future(
            client.post("/v1/completions", json=body(stream=False, max_tokens=60))
        )
        leaves = asyncio.ensure_future(client.post("/v1/completions", json=body(stream=stream)))
        await wait_until(lambda: replica.groups)
        await asyncio.sleep(0.05)
        leaves.cancel()
        await wait_until(lambda: replica.cancelled)
        answer = await stays
    assert len(replica.groups) == 1
    assert len(replica.cancelled) == 1
    assert answer.json()["usage"]["completion_tokens"] == 60


async def test_a_client_that_leaves_before_its_window_closes_costs_nothing() -> None:
    replica = CountingReplica(step_s=0.01)
    async with (
        serving(create_app(make_door(replica, wait_s=0.3))) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        leaves = asyncio.ensure_future(client.post("/v1/completions", json=body()))
        await asyncio.sleep(0.1)
        leaves.cancel()
        await wait_until(lambda: replica.groups)
        await wait_until(lambda: replica.cancelled)


async def test_all_prompts_of_a_request_are_cancelled() -> None:
    replica = CountingReplica(step_s=0.01)
    async with (
        serving(create_app(make_door(replica))) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        many = client.stream("POST", "/v1/completions", json=body(prompt=["a", "b", "c"]))
        async with many as response:
            await anext(response.aiter_lines())
        await wait_until(lambda: len(replica.cancelled) == 3)
