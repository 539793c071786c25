"""A client that has the beginning of an answer gets the rest of it, over HTTP and gRPC."""

from typing import Any

import grpc
import httpx
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ask import Ask
from app.protos.flora.v1 import flora_pb2 as pb
from app.resume import require_resumable
from contracts.adapters import BASE
from contracts.errors import InvalidRequest
from contracts.generation import Sampling
from tests.app.bodies import CHAT, TEXT, post
from tests.app.grpc_parts import ask, call, code_of, failure, grpc_channel
from tests.app.parts import VOCAB, CountingReplica, make_door

BODIES = {
    "/v1/chat/completions": {**CHAT, "max_tokens": 6},
    "/v1/completions": {**TEXT, "max_tokens": 6},
}
TOKENS = {"return_token_ids": True}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}


def events(response: httpx.Response) -> list[Any]:
    *blocks, done, _ = response.text.split("\n\n")
    assert done == "data: [DONE]"
    return [orjson.loads(block.removeprefix("data: ")) for block in blocks]


def text_of(choice: dict[str, Any]) -> str:
    said = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
    return str(said.get("content", ""))


def joined(chunks: list[Any]) -> tuple[str, list[int], str]:
    """Text, tokens and finish reason of a stream of one choice."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    ids = [token_id for choice in choices for token_id in choice.get("token_ids") or ()]
    return "".join(map(text_of, choices)), ids, choices[-1]["finish_reason"]


@pytest.mark.parametrize("path", BODIES)
async def test_a_stream_goes_on_wherever_it_was_cut(path: str) -> None:
    body = {**BODIES[path], **TOKENS, **STREAM}
    chunks = events(await post(body, path))
    text, ids, finish_reason = joined(chunks)
    assert (ids, finish_reason) == ([0, 1, 2, 3, 4, 5], "length")
    usage = chunks[-1]["usage"]
    for cut in range(len(chunks) - 2):
        had = chunks[:cut]
        had_text, had_ids, _ = joined(had) if had else ("", [], "")
        rest = events(await post({**body, "resume_token_ids": had_ids}, path))
        rest_text, rest_ids, rest_reason = joined(rest)
        assert (had_text + rest_text, had_ids + rest_ids, rest_reason) == (text, ids, "length")
        assert rest[-1]["usage"]["completion_tokens"] == len(rest_ids)
        assert rest[-1]["usage"]["prompt_tokens"] == usage["prompt_tokens"] + len(had_ids)


@pytest.mark.parametrize("path", BODIES)
async def test_a_whole_answer_goes_on_too(path: str) -> None:
    replica = CountingReplica()
    body = {**BODIES[path], **TOKENS, "resume_token_ids": [0, 1], "temperature": 0}
    answer = (await post(body, path, replica=replica)).json()
    (choice,) = answer["choices"]
    assert text_of(choice) == "base2 base3 base4 base5 "
    assert choice["token_ids"] == [2, 3, 4, 5]
    assert answer["usage"]["completion_tokens"] == 4
    (sent,) = replica.groups[0]
    assert (sent.resumed_token_ids, sent.sampling.max_tokens) == ((0, 1), 6)


async def test_tokens_stand_where_vllm_has_them() -> None:
    body = {**TOKENS, "n": 2}
    chat = (await post({**CHAT, **body})).json()
    assert len(chat["prompt_token_ids"]) == chat["usage"]["prompt_tokens"]
    assert [choice["token_ids"] for choice in chat["choices"]] == [[0, 1, 2]] * 2
    chunks = events(await post({**CHAT, **body, "stream": True}))
    assert [c.get("prompt_token_ids") for c in chunks] == [chat["prompt_token_ids"]] * 2 + [
        None
    ] * 6
    assert "token_ids" not in chunks[0]["choices"][0]
    many = {**TEXT, **body, "prompt": [[5], [6, 7]]}
    text = (await post(many, "/v1/completions")).json()
    prompts = [choice["prompt_token_ids"] for choice in text["choices"]]
    assert prompts == [[5], [5], [6, 7], [6, 7]]
    assert [choice["token_ids"] for choice in text["choices"]] == [[0, 1, 2]] * 4
    chunks = events(await post({**many, "stream": True}, "/v1/completions"))
    parts = [c["choices"][0] for c in chunks]
    firsts = {p["index"]: p["prompt_token_ids"] for p in parts if p["prompt_token_ids"]}
    assert firsts == dict(enumerate(prompts))
    assert sum(p["prompt_token_ids"] is not None for p in parts) == 4
    assert all(p["token_ids"] for p in parts)


@pytest.mark.parametrize("path", BODIES)
async def test_who_does_not_ask_sees_no_tokens(path: str) -> None:
    others: list[dict[str, Any]] = [{}, {"return_token_ids": False}, {"resume_token_ids": []}]
    for wanted in others:
        answer = await post({**BODIES[path], **wanted}, path)
        assert "token_ids" not in answer.text
        assert answer.json()["usage"]["completion_tokens"] == 6


async def test_the_token_of_an_echo_alone_is_not_shown() -> None:
    body = {**TEXT, **TOKENS, "echo": True, "max_tokens": 0, "prompt": [7, 8]}
    choice = (await post(body, "/v1/completions")).json()["choices"][0]
    assert (choice["prompt_token_ids"], choice["token_ids"]) == ([7, 8], [])


def resuming(ids: list[int], **sampling: Any) -> pb.GenerateRequest:
    request = ask(**sampling)
    request.resume_token_ids.extend(ids)
    return request


async def test_a_grpc_stream_goes_on_wherever_it_was_cut() -> None:
    async with grpc_channel(make_door()) as channel:
        whole = await call(channel, "Generate", resuming([], max_tokens=6))
        for cut in range(6):
            ids, text = list(range(cut)), "".join(f"base{i} " for i in range(cut))
            request = resuming(ids, max_tokens=6)
            async for message in call(channel, "GenerateStream", request):
                for delta in message.deltas:
                    ids += delta.token_ids
                    text += delta.text
            assert (ids, text) == (list(whole.choices[0].token_ids), whole.choices[0].text)
            assert message.usage.completion_tokens == 6 - cut
            assert message.usage.prompt_tokens == whole.usage.prompt_tokens + cut
            rest = await call(channel, "Generate", request)
            assert list(rest.choices[0].token_ids) == ids[cut:]


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
@pytest.mark.parametrize(
    "request_",
    [
        resuming([VOCAB]),
        resuming([1], n=2),
        resuming([1, 2, 3]),
        resuming([1], prompt_logprobs=1),
    ],
)
async def test_what_cannot_be_resumed_is_refused(method: str, request_: pb.GenerateRequest) -> None:
    replica = CountingReplica()
    async with grpc_channel(make_door(replica)) as channel:
        error = await failure(call(channel, method, request_))
    assert (error.code(), code_of(error)) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "invalid_request",
    )
    assert dict(error.trailing_metadata())["flora-error-param"] == "resume_token_ids"
    assert replica.groups == []


@given(
    st.lists(st.integers(0, 12), max_size=8),
    st.integers(1, 8),
    st.integers(1, 2),
    st.sampled_from([None, 0]),
)
def test_what_is_let_through_leaves_something_to_do(
    ids: list[int], max_tokens: int, n: int, prompt_logprobs: int | None
) -> None:
    sampling = Sampling(max_tokens, n=n, prompt_logprobs=prompt_logprobs)
    made = Ask("a", "tiny", None, (1, 2), sampling, resumed_token_ids=tuple(ids))
    is_good = max(ids, default=0) < 10 and len(ids) < max_tokens
    if not ids or (is_good and n == 1 and prompt_logprobs is None):
        require_resumable(ids, sampling, vocab_size=10)
        assert made.max_new_tokens >= 1
        assert made.num_input_tokens + made.max_new_tokens == 2 + max_tokens
        assert made.request(BASE).num_input_tokens == made.num_input_tokens
    else:
        with pytest.raises(InvalidRequest) as caught:
            require_resumable(ids, sampling, vocab_size=10)
        assert caught.value.param == "resume_token_ids"
