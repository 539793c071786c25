"""The standard health service, as load balancers call it."""

import asyncio
from unittest.mock import patch

import grpc
from grpc_health.v1 import health_pb2 as pb

from app import grpc_health
from app.grpc_health import Health
from tests.app.grpc_parts import call, code_of, failure, grpc_channel
from tests.app.parts import CountingReplica, make_door

SERVING = pb.HealthCheckResponse.SERVING
NOT_SERVING = pb.HealthCheckResponse.NOT_SERVING


def of(service: str = "") -> pb.HealthCheckRequest:
    return pb.HealthCheckRequest(service=service)


async def test_a_ready_door_serves_all_its_services() -> None:
    async with grpc_channel(make_door()) as channel:
        for service in ("", "flora.v1.Generation", "flora.v1.Adapters"):
            assert (await call(channel, "Check", of(service))).status == SERVING
        unknown = await failure(call(channel, "Check", of("flora.v9.Nothing")))
        assert unknown.code() == grpc.StatusCode.NOT_FOUND
        everything = (await call(channel, "List", pb.HealthListRequest())).statuses
        assert {status.status for status in everything.values()} == {SERVING}
        assert "flora.v1.Generation" in everything


async def test_a_door_without_its_engine_does_not_serve() -> None:
    replica = CountingReplica()
    replica.ready = False
    async with grpc_channel(make_door(replica)) as channel:
        assert (await call(channel, "Check", of())).status == NOT_SERVING


async def test_a_watcher_learns_of_every_change() -> None:
    replica = CountingReplica()
    health = Health(make_door(replica), watch_s=0.02)
    states = health.watch(of("flora.v1.Generation"))
    async with asyncio.timeout(10):
        assert (await anext(states)).status == SERVING
        replica.ready = False
        assert (await anext(states)).status == NOT_SERVING
        replica.ready = True
        assert (await anext(states)).status == SERVING
    await states.aclose()
    assert health.num_watchers == 0


async def test_a_watcher_of_what_is_not_there_is_told_so() -> None:
    async with grpc_channel(make_door()) as channel:
        watching = call(channel, "Watch", of("flora.v9.Nothing"))
        assert (await watching.read()).status == pb.HealthCheckResponse.SERVICE_UNKNOWN
        watching.cancel()


async def test_watchers_are_bounded() -> None:
    with patch.object(grpc_health, "MAX_WATCHERS", 1):
        async with grpc_channel(make_door()) as channel:
            first = call(channel, "Watch", of())
            assert (await first.read()).status == SERVING
            error = await failure(call(channel, "Watch", of()))
            assert (error.code(), code_of(error)) == (grpc.StatusCode.UNAVAILABLE, "overloaded")
            first.cancel()


async def test_many_questions_ask_the_engine_once() -> None:
    replica = CountingReplica()
    door = make_door(replica)
    health = Health(door)
    with patch.object(door, "require_ready", wraps=door.require_ready) as asked:
        await asyncio.gather(*(health.check(of()) for _ in range(20)))
        await health.check(of())
    assert asked.call_count == 1
