"""Quotas and full queues as gRPC shows them; both protocols draw on the same ones."""

import asyncio

import grpc
import httpx
import pytest

from app.auth import KeyAuthoriser
from app.door import Door
from app.gather import GatherLimits
from app.grpc_errors import PUSHBACK_KEY
from app.http_api import create_app
from app.quota_ledger import MemoryLedger
from app.quotas import Quotas
from app.waiting_room import RoomLimits
from contracts.access import Caller, Quota, Scope
from contracts.adapters import TenantId
from tests.app.grpc_parts import ask, call, code_of, failure, grpc_channel
from tests.app.parts import CountingReplica, make_door

QUOTAS = {
    "two": Quota(requests_per_min=2),
    "one": Quota(max_streams=1),
}


class Keys:
    """The key is its own name, its tenant too."""

    async def find(self, secret: str) -> Caller | None:
        quota = QUOTAS.get(secret, Quota())
        return Caller(secret, TenantId(secret), frozenset({Scope.GENERATE}), quota=quota)


def make_limited(
    replica: CountingReplica | None = None, gather_limits: GatherLimits | None = None
) -> Door:
    quotas = Quotas(MemoryLedger(60), MemoryLedger(60))
    return make_door(
        replica, quotas=quotas, auth=KeyAuthoriser(Keys()), gather_limits=gather_limits
    )


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_over_a_quota_is_exhausted_and_says_when(method: str) -> None:
    replica = CountingReplica()
    async with grpc_channel(make_limited(replica)) as channel:
        for _ in range(2):
            await call(channel, "Generate", ask(), "two")
        error = await failure(call(channel, method, ask(), "two"))
        assert (error.code(), code_of(error)) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "rate_limit_exceeded",
        )
        assert 1000 < int(dict(error.trailing_metadata())[PUSHBACK_KEY]) <= 30_000
        await call(channel, "Generate", ask(), "another")
    assert len(replica.groups) == 3


async def test_what_http_used_is_not_left_for_grpc() -> None:
    door = make_limited()
    transport = httpx.ASGITransport(create_app(door))
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://door") as client,
        grpc_channel(door) as channel,
    ):
        body = {"model": "tiny", "prompt": "hi", "max_tokens": 3}
        headers = {"Authorization": "Bearer two"}
        assert (await client.post("/v1/completions", json=body, headers=headers)).is_success
        await call(channel, "Generate", ask(), "two")
        assert (await failure(call(channel, "Generate", ask(), "two"))).code() == (
            grpc.StatusCode.RESOURCE_EXHAUSTED
        )
        refused = await client.post("/v1/completions", json=body, headers=headers)
        assert refused.status_code == 429


async def test_a_stream_holds_its_place_until_its_client_has_left() -> None:
    replica = CountingReplica(step_s=0.02)
    async with grpc_channel(make_limited(replica)) as channel:
        first = call(channel, "GenerateStream", ask(max_tokens=400), "one")
        assert (await first.read()).deltas
        error = await failure(call(channel, "Generate", ask(), "one"))
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        first.cancel()
        for _ in range(100):
            try:
                await call(channel, "Generate", ask(), "one")
                break
            except grpc.aio.AioRpcError:
                continue
        else:
            pytest.fail("the place was never given back")


async def test_a_request_that_can_never_pass_is_the_callers_fault() -> None:
    async with grpc_channel(make_limited()) as channel:
        error = await failure(call(channel, "Generate", ask(n=2), "one"))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_full_queue_refuses_early() -> None:
    replica = CountingReplica(step_s=0.02)
    room = GatherLimits(max_running=1, room=RoomLimits(max_waiting=1, max_waiting_per_tenant=1))
    async with grpc_channel(make_limited(replica, gather_limits=room)) as channel:
        long = [call(channel, "GenerateStream", ask(max_tokens=400), "free") for _ in range(3)]
        ends = [asyncio.ensure_future(failure(each)) for each in long]
        # One runs, one waits, one finds no place.
        done, left = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        (error,) = [end.result() for end in done]
        assert (error.code(), code_of(error)) == (grpc.StatusCode.UNAVAILABLE, "overloaded")
        assert dict(error.trailing_metadata())[PUSHBACK_KEY] == "1000"
        for each in left:
            each.cancel()
        for each in long:
            each.cancel()
