"""The two generation routes: answers, refusals, and neighbours in trouble."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from adapter_cache.store import MemoryStore
from app.door import DoorLimits
from contracts.adapters import TenantId
from tests.app.bodies import CHAT, TEXT, post
from tests.app.parts import MAX_LEN, CountingReplica, make_client, make_door, publish


def events(response: httpx.Response) -> list[Any]:
    """The parsed events of a stream, checked for shape."""
    assert response.headers["content-type"].startswith("text/event-stream")
    *blocks, done, rest = response.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks)
    return [orjson.loads(block.removeprefix("data: ")) for block in blocks]


async def test_a_chat_answer() -> None:
    response = await post(CHAT)
    assert response.status_code == 200
    assert response.json() == {
        "id": "chatcmpl-id0",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "tiny",
        "system_fingerprint": "fp_base",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "base0 base1 base2 ",
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": "length",
            }
        ],
        "usage": {
            "prompt_tokens": 20,
            "completion_tokens": 3,
            "total_tokens": 23,
            "prompt_tokens_details": {"cached_tokens": 3},
        },
    }


async def test_a_chat_stream() -> None:
    options = {"stream": True, "stream_options": {"include_usage": True}, "n": 2}
    chunks = events(await post({**CHAT, **options}))
    assert {c["object"] for c in chunks} == {"chat.completion.chunk"}
    assert [c["choices"][0]["delta"] for c in chunks[:2]] == [
        {"role": "assistant", "content": ""}
    ] * 2
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == 6
    assert all(c["usage"] is None for c in chunks[:-1])
    choices = [c["choices"][0] for c in chunks[:-1]]
    for index in (0, 1):
        mine = [c for c in choices if c["index"] == index]
        assert "".join(c["delta"].get("content", "") for c in mine) == "base0 base1 base2 "
        assert [c["finish_reason"] for c in mine] == [None, None, None, "length"]


async def test_a_stream_without_usage_has_none() -> None:
    chunks = events(await post({**CHAT, "stream": True}))
    assert all("usage" not in c and c["choices"] for c in chunks)


async def test_chat_logprobs() -> None:
    response = await post({**CHAT, "logprobs": True, "top_logprobs": 2})
    first = response.json()["choices"][0]["logprobs"]["content"][0]
    assert (first["token"], first["logprob"], bytes(first["bytes"])) == ("base0 ", -0.25, b"base0 ")
    assert [t["token"] for t in first["top_logprobs"]] == ["base0 ", "alt1"]
    streamed = events(await post({**CHAT, "logprobs": True, "stream": True}))
    assert streamed[1]["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


async def test_text_completions_of_many_prompts() -> None:
    body = {**TEXT, "prompt": ["a", "bc"], "n": 2}
    answer = (await post(body, "/v1/completions")).json()
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    assert {c["text"] for c in answer["choices"]} == {"base0 base1 base2 "}
    assert answer["usage"]["prompt_tokens"] == 3
    assert answer["usage"]["completion_tokens"] == 12
    chunks = events(await post({**body, "stream": True}, "/v1/completions"))
    assert {c["choices"][0]["index"] for c in chunks} == {0, 1, 2, 3}


@pytest.mark.parametrize("prompt", [[5, 6, 7], [[5, 6, 7]]])
async def test_token_prompts(prompt: Any) -> None:
    replica = CountingReplica()
    response = await post({**TEXT, "prompt": prompt}, "/v1/completions", replica=replica)
    assert response.status_code == 200
    assert replica.groups[0][0].prompt_token_ids == (5, 6, 7)


async def test_echo_with_logprobs_lists_the_prompt_first() -> None:
    body = {**TEXT, "prompt": "xyz", "echo": True, "logprobs": 1, "max_tokens": 1}
    choice = (await post(body, "/v1/completions")).json()["choices"][0]
    assert choice["text"] == "xyzbase0 "
    entry = choice["logprobs"]
    assert entry["tokens"][0] == "x"
    assert entry["token_logprobs"] == [None, -0.5, -0.5, -0.25]
    assert entry["top_logprobs"][0] is None
    assert entry["text_offset"] == [0, 1, 2, 3]


async def test_echo_alone_shows_the_prompt_and_nothing_else() -> None:
    body = {**TEXT, "prompt": "xyz", "echo": True, "logprobs": 0, "max_tokens": 0}
    choice = (await post(body, "/v1/completions")).json()["choices"][0]
    assert (choice["text"], len(choice["logprobs"]["tokens"])) == ("xyz", 3)
    chunks = events(await post({**body, "stream": True}, "/v1/completions"))
    assert "".join(c["choices"][0]["text"] for c in chunks) == "xyz"


async def test_everything_that_shapes_sampling_arrives() -> None:
    replica = CountingReplica()
    body = {
        **TEXT, "temperature": 0, "top_p": 0.5, "n": 2, "stop": ["a", "b"], "seed": 7,
        "presence_penalty": 1, "frequency_penalty": -1, "logit_bias": {"5": 2}, "top_k": 4,
        "min_p": 0.1, "repetition_penalty": 1.5, "min_tokens": 2, "ignore_eos": True,
        "stop_token_ids": [9], "logprobs": 3, "user": "me", "best_of": 2, "suffix": None,
        "allowed_token_ids": [5, 6], "bad_words": ["no"], "include_stop_str_in_output": True,
        "skip_special_tokens": False, "spaces_between_special_tokens": False,
    }  # fmt: skip
    assert (await post(body, "/v1/completions", replica=replica)).status_code == 200
    s = replica.groups[0][0].sampling
    assert (s.temperature, s.top_p, s.n, s.stop, s.seed) == (0, 0.5, 2, ("a", "b"), 7)
    assert (s.presence_penalty, s.frequency_penalty, s.logit_bias) == (1, -1, ((5, 2),))
    assert (s.top_k, s.min_p, s.repetition_penalty, s.min_tokens) == (4, 0.1, 1.5, 2)
    assert (s.ignore_eos, s.stop_token_ids, s.logprobs, s.max_tokens) == (True, (9,), 3, 3)
    assert (s.allowed_token_ids, s.bad_words, s.structure) == ((5, 6), ("no",), None)
    assert s.include_stop_str_in_output
    assert not s.skip_special_tokens
    assert not s.spaces_between_special_tokens


async def test_a_chat_may_fill_the_rest_of_the_context() -> None:
    replica = CountingReplica()
    body = {k: v for k, v in CHAT.items() if k != "max_tokens"}
    assert (await post(body, replica=replica)).status_code == 200
    assert replica.groups[0][0].sampling.max_tokens == MAX_LEN - 20


@pytest.mark.parametrize(
    ("prompt", "max_tokens", "counts"),
    [
        ("x" * 600, 1, ("512", "600")),
        ("x" * 500, 20, ("512", "500", "20")),
        ("x" * 9000, 1, ("9000",)),
    ],
)
async def test_a_prompt_too_long_is_refused_with_its_counts(
    prompt: str, max_tokens: int, counts: tuple[str, ...]
) -> None:
    response = await post({**TEXT, "prompt": prompt, "max_tokens": max_tokens}, "/v1/completions")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "context_length_exceeded")
    assert all(count in error["message"] for count in counts)


async def test_a_body_over_the_limit_is_413() -> None:
    limits = DoorLimits(max_body_bytes=1000)
    assert (await post({**TEXT, "prompt": "x" * 2000}, limits=limits)).status_code == 413

    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 100

    async with make_client(make_door(limits=limits)) as client:
        response = await client.post("/v1/completions", content=endless())
    assert response.json()["error"]["code"] == "request_too_large"


async def test_somebody_elses_adapter_does_not_exist() -> None:
    store = MemoryStore()
    await publish(store, "secret", TenantId("other"))
    await publish(store, "mine")
    answers = [
        await post({**CHAT, "model": f"tiny:{name}"}, store=store)
        for name in ("secret", "absent", "mine@2")
    ]
    assert [a.status_code for a in answers] == [404, 404, 404]
    bodies = [
        a.text.replace(n, "X") for a, n in zip(answers, ("secret", "absent", "mine@2"), strict=True)
    ]
    assert len(set(bodies)) == 1
    assert answers[0].json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["broken", "deaf", "crash"])
async def test_an_engine_failure(name: str, stream: bool) -> None:
    store = MemoryStore()
    await publish(store, name)
    response = await post({**CHAT, "model": f"tiny:{name}", "stream": stream}, store=store)
    if stream and name != "broken":
        assert response.status_code == 200
        assert events(response)[-1]["error"]["code"] == "engine_failed"
    else:
        assert response.status_code == 500
        assert response.json()["error"]["code"] == "engine_failed"
        assert "cuda" not in response.text


async def test_errors_in_one_window_hit_only_their_own() -> None:
    store, replica = MemoryStore(), CountingReplica()
    for name in ("good", "broken"):
        await publish(store, name)
    async with make_client(make_door(replica, store, wait_s=0.02)) as client:
        models = ["tiny", "tiny:good", "tiny:broken", "tiny:absent", "tiny:good@1"]
        sent = [client.post("/v1/completions", json={**TEXT, "model": m}) for m in models]
        answers = await asyncio.gather(*sent)
    assert [a.status_code for a in answers] == [200, 200, 500, 404, 200]
    assert answers[4].json()["choices"][0]["text"] == "good0 good1 good2 "
    assert len(replica.groups) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_deadline_ends_the_request(stream: bool) -> None:
    replica = CountingReplica(step_s=0.03)
    limits = DoorLimits(request_timeout_s=0.1)
    response = await post(
        {**CHAT, "max_tokens": 50, "stream": stream}, replica=replica, limits=limits
    )
    assert "deadline_exceeded" in response.text
    assert response.status_code == (200 if stream else 504)
    await asyncio.sleep(0)
    assert replica.cancelled == {"chatcmpl-id0-0"}
