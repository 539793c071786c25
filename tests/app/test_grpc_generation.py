"""Generate and GenerateStream over a real socket, with an engine that counts."""

import asyncio
import time
from collections.abc import Callable

import grpc
import pytest

from adapter_cache.store import MemoryStore
from app.door import DoorLimits
from app.protos.flora.v1 import flora_pb2 as pb
from tests.app.grpc_parts import ask, call, code_of, failure, grpc_channel
from tests.app.parts import CountingReplica, make_door, publish


async def test_a_whole_answer_says_who_answered_and_what_it_cost() -> None:
    store = MemoryStore()
    manifest = await publish(store, "mine")
    async with grpc_channel(make_door(store=store)) as channel:
        answer = await call(channel, "Generate", ask(model="tiny:mine", logprobs=2))
    (choice,) = answer.choices
    assert (choice.text, list(choice.token_ids)) == ("mine0 mine1 mine2 ", [0, 1, 2])
    assert choice.finish_reason == pb.FINISH_REASON_LENGTH
    assert [round(t.logprob, 2) for t in choice.logprobs] == [-0.25] * 3
    assert [alternative.token for alternative in choice.logprobs[0].top] == ["mine0 ", "alt1"]
    version = answer.adapter
    assert (version.name, version.version, version.digest) == ("mine", 1, manifest.key.digest)
    usage = answer.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (2, 3, 3)


async def test_a_stream_is_the_whole_answer_in_parts() -> None:
    async with grpc_channel(make_door()) as channel:
        request = ask(n=2, prompt_logprobs=0, seed=4)
        whole = await call(channel, "Generate", request)
        parts = [part async for part in call(channel, "GenerateStream", request)]
    assert parts[0].id.startswith("gen-")
    assert not parts[0].HasField("adapter")
    assert parts[0].prompt_logprobs == whole.prompt_logprobs
    assert [p.HasField("logprob") for p in whole.prompt_logprobs] == [False, True]
    assert parts[-1].usage == whole.usage
    assert not any(part.HasField("usage") for part in parts[:-1])
    texts = {0: "", 1: ""}
    for delta in (delta for part in parts for delta in part.deltas):
        texts[delta.index] += delta.text
    assert texts == {choice.index: choice.text for choice in whole.choices}


async def test_every_kind_of_prompt_is_read() -> None:
    replica = CountingReplica()
    async with grpc_channel(make_door(replica)) as channel:
        ids = pb.GenerateRequest(model="tiny", token_ids=pb.TokenIds(ids=[5, 6]))
        ids.sampling.max_tokens = 1
        talk = ask()
        talk.conversation.messages.add(role="developer", content="be kind")
        talk.conversation.messages.add(role="user", content="hi")
        for request in (ids, ask("hi"), talk):
            await call(channel, "Generate", request)
    prompts = [group[0].prompt_token_ids for group in replica.groups]
    assert prompts[0] == (5, 6)
    assert len(prompts[1]) == 2
    assert len(prompts[2]) > 20


async def test_what_is_not_given_has_the_default_and_all_that_fits() -> None:
    replica = CountingReplica()
    async with grpc_channel(make_door(replica)) as channel:
        await call(channel, "Generate", pb.GenerateRequest(model="tiny", text="hi"))
    (sent,) = replica.groups[0]
    assert (sent.sampling.max_tokens, sent.sampling.temperature) == (510, 1.0)
    assert sent.sampling.logprobs is None


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (ask(model="other"), grpc.StatusCode.NOT_FOUND, "model_not_found"),
        (ask(model="tiny:nobody"), grpc.StatusCode.NOT_FOUND, "model_not_found"),
        (ask(temperature=9.0), grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
        (ask("x" * 600), grpc.StatusCode.INVALID_ARGUMENT, "context_length_exceeded"),
        (pb.GenerateRequest(model="tiny"), grpc.StatusCode.INVALID_ARGUMENT, "invalid_request"),
    ],
)
@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_a_refused_call_says_why(
    method: str, request_: pb.GenerateRequest, status: grpc.StatusCode, code: str
) -> None:
    async with grpc_channel(make_door()) as channel:
        error = await failure(call(channel, method, request_))
    assert (error.code(), code_of(error)) == (status, code)
    assert error.details()


async def test_an_error_comes_after_the_tokens_before_it() -> None:
    store = MemoryStore()
    await publish(store, "crash")
    async with grpc_channel(make_door(store=store)) as channel:
        running = call(channel, "GenerateStream", ask(model="tiny:crash"))
        first = await running.read()
        error = await failure(running)
    assert [delta.text for delta in first.deltas] == ["crash0 "]
    assert (error.code(), code_of(error)) == (grpc.StatusCode.INTERNAL, "engine_failed")


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_the_requests_own_time_and_the_servers_end_it(method: str) -> None:
    replica = CountingReplica(step_s=0.02)
    limits = DoorLimits(request_timeout_s=0.3)
    async with grpc_channel(make_door(replica, limits=limits)) as channel:
        short = ask(max_tokens=400)
        short.timeout_s = 0.1
        for request, most_s in ((short, 0.25), (ask(max_tokens=400), 1.0)):
            began_s = time.monotonic()
            error = await failure(call(channel, method, request))
            assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            assert code_of(error) == "deadline_exceeded"
            assert time.monotonic() - began_s < most_s
    assert len(replica.cancelled) == 2


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
async def test_a_client_that_leaves_or_runs_out_of_time_frees_the_engine(method: str) -> None:
    replica = CountingReplica(step_s=0.02)
    async with grpc_channel(make_door(replica)) as channel:
        running = call(channel, method, ask(max_tokens=400))
        await until(lambda: len(replica.groups) == 1)
        running.cancel()
        await until(lambda: len(replica.cancelled) == 1)
        late = call(channel, method, ask(max_tokens=400), timeout_s=0.1)
        error = await failure(late)
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await until(lambda: len(replica.cancelled) == 2)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 (the engine has no event to wait for)
            await asyncio.sleep(0.01)
