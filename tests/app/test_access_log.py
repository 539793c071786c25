"""The access log under gRPC, and by itself; HTTP has a file of its own."""

import asyncio
from typing import Any

from prometheus_client import CollectorRegistry

from app.access_log import AccessLog
from app.ask import Ask
from app.grpc_services import caller_of
from app.protos.flora.v1 import flora_pb2 as pb
from app.request_observer import RequestEnd
from contracts.access import Caller
from contracts.adapters import Digest, TenantId
from contracts.generation import Sampling
from tests.app.access_lines import lines as lines
from tests.app.grpc_parts import METHODS, failure, grpc_channel
from tests.app.parts import CountingReplica, make_door

CALLER = Caller("k", TenantId("acme"), frozenset())


def ask(request_id: str) -> Ask:
    return Ask(request_id, "m", None, (1,), Sampling(1), CALLER)


def end(num_generated_tokens: int) -> RequestEnd:
    return RequestEnd("stop", 5, 1, num_generated_tokens, 0.1, 0.2, Digest(""))


def test_the_prompts_of_a_request_add_up(lines: list[Any]) -> None:
    log = AccessLog(CollectorRegistry())
    request = log.begin("http")
    log.admit([ask("cmpl-1-0"), ask("cmpl-1-1")])
    log.ended("cmpl-1-0", CALLER, "m", end(3))
    log.ended("cmpl-1-1", CALLER, "m", end(4))
    log.ended("cmpl-1-1", CALLER, "m", end(99))
    request.end("POST /x", "200")
    (line,) = lines
    assert (line.answer_id, line.prompt_tokens, line.generated_tokens) == ("cmpl-1", 10, 7)


def test_a_request_that_is_gone_is_forgotten(lines: list[Any]) -> None:
    log = AccessLog(CollectorRegistry(), clock=iter(range(100)).__next__)
    request = log.begin("http")
    log.admit([ask("a-0")])
    assert log.age_s("a-0") == 1
    request.end("POST /x", "499")
    del request
    assert log.age_s("a-0") is None
    log.began("a-0", CALLER)
    log.ended("a-0", CALLER, "m", end(1))
    assert len(log._prompts) == 0


def test_probes_that_succeed_are_for_debugging(lines: list[Any]) -> None:
    log = AccessLog(CollectorRegistry())
    for status in ("200", "503"):
        log.begin("http").end("GET /readyz", status)
    assert [line.levelname for line in lines] == ["DEBUG", "INFO"]


async def test_calls_have_ids_lines_and_counts(lines: list[Any]) -> None:
    door = make_door()
    async with grpc_channel(door) as channel:
        request = pb.GenerateRequest(model="tiny", text="abc", sampling=pb.Sampling(max_tokens=4))
        call = caller_of(channel, METHODS["Generate"])(
            request, metadata=(("x-request-id", "mine-1"),), timeout=20
        )
        await call
        trailers = dict(await call.trailing_metadata())
        bad = caller_of(channel, METHODS["GenerateStream"])(
            pb.GenerateRequest(model="nobody", text="abc"), timeout=20
        )
        error = await failure(bad)
    assert trailers["x-request-id"] == "mine-1"
    assert len(str(dict(error.trailing_metadata())["x-request-id"])) == 32
    answered, refused = lines
    assert (answered.protocol, answered.route, answered.status) == ("grpc", "Generate", "OK")
    assert (answered.prompt_tokens, answered.generated_tokens) == (3, 4)
    assert (refused.route, refused.status) == ("GenerateStream", "NOT_FOUND")
    text = door.metrics.render().decode()
    assert 'protocol="grpc",route="GenerateStream",status="NOT_FOUND"} 1.0' in text


async def test_a_call_that_is_left_is_cancelled(lines: list[Any]) -> None:
    door = make_door(CountingReplica(step_s=0.01))
    async with grpc_channel(door) as channel:
        request = pb.GenerateRequest(model="tiny", text="abc", sampling=pb.Sampling(max_tokens=400))
        call = caller_of(channel, METHODS["GenerateStream"])(request, timeout=20)
        await call.read()
        call.cancel()
        async with asyncio.timeout(5):
            while not lines:  # noqa: ASYNC110  # a line makes no sound
                await asyncio.sleep(0.001)
    assert [(line.route, line.status) for line in lines] == [("GenerateStream", "CANCELLED")]
    assert 0 < lines[0].generated_tokens < 400
