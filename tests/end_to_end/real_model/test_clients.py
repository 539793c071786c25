"""Clients that people have, unchanged, against one server with the real model."""

import asyncio
import json
import re
import subprocess
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.end_to_end.real_model.demo import BASE

PIRATE = f"{BASE}:pirate"
EGG: Any = [{"role": "user", "content": "How do I boil an egg?"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.timeout(400),
    # What client libraries warn of at their import is not about this server.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


class Egg(BaseModel):
    """What a structured answer must look like."""

    minutes: int
    style: str


EGG_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "minutes": {"enum": [3, 5, 7]},
        "style": {"enum": ["soft", "hard"]},
    },
    "required": ["minutes", "style"],
    "additionalProperties": False,
}


def test_openai_hears_which_bytes_answered(url: str, client: openai.OpenAI) -> None:
    details = httpx.get(f"{url}/v1/adapters/pirate").json()
    for model, fingerprint in (
        (BASE, "fp_base"),
        (PIRATE, f"fp_{details['digest'][:16]}"),
        (f"{PIRATE}@{details['version']}", f"fp_{details['digest'][:16]}"),
    ):
        whole = client.chat.completions.create(model=model, messages=EGG, max_tokens=4)
        assert whole.system_fingerprint == fingerprint
        parts = client.chat.completions.create(model=model, messages=EGG, max_tokens=4, stream=True)
        assert {part.system_fingerprint for part in parts} == {fingerprint}


async def test_openai_streams_many_adapters_at_a_time(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:

        async def read(model: str) -> str:
            stream = await client.chat.completions.create(
                model=model, messages=EGG, max_tokens=16, temperature=0, stream=True
            )
            return "".join([part.choices[0].delta.content or "" async for part in stream])

        answers = await asyncio.gather(*(read(model) for model in (BASE, PIRATE, BASE, PIRATE)))
    assert answers[0] == answers[2] != answers[1] == answers[3]


def test_openai_parses_a_schema_with_an_adapter(client: openai.OpenAI) -> None:
    format_: Any = {
        "type": "json_schema",
        "json_schema": {"name": "egg", "schema": EGG_SCHEMA, "strict": True},
    }
    for model in (BASE, PIRATE):
        answer = client.chat.completions.create(
            model=model, messages=EGG, max_tokens=64, temperature=0, response_format=format_
        ).choices[0]
        assert answer.finish_reason == "stop"
        egg = Egg.model_validate_json(answer.message.content or "")
        assert (egg.minutes, egg.style) in {(m, s) for m in (3, 5, 7) for s in ("soft", "hard")}


def test_openai_parse_gives_an_object(client: openai.OpenAI) -> None:
    class Answer(BaseModel):
        boiled: bool

    answer = client.chat.completions.parse(
        model=PIRATE, messages=EGG, max_tokens=32, temperature=0, response_format=Answer
    )
    assert isinstance(answer.choices[0].message.parsed, Answer)


@pytest.mark.parametrize(
    ("wanted", "pattern"),
    [
        ({"regex": r"[A-F]{3}-\d{2}"}, r"[A-F]{3}-\d{2}"),
        ({"choice": ["yes", "no"]}, "yes|no"),
        ({"grammar": 'root ::= ("ab")+ "c"'}, "(ab)+c"),
    ],
)
def test_openai_sends_vllms_own_bounds(
    client: openai.OpenAI, wanted: dict[str, Any], pattern: str
) -> None:
    answer = client.completions.create(
        model=PIRATE,
        prompt="x",
        max_tokens=64,
        temperature=1.0,
        seed=5,
        extra_body={"structured_outputs": wanted},
    )
    text = answer.choices[0].text
    assert re.fullmatch(pattern, text) or answer.choices[0].finish_reason == "length"


@pytest.mark.parametrize("choice", ["required", "named"])
def test_openai_calls_tools(client: openai.OpenAI, choice: str) -> None:
    named: Any = {"type": "function", "function": {"name": "weather"}}
    options: Any = {
        "model": PIRATE,
        "messages": EGG,
        "tools": [WEATHER],
        "tool_choice": named if choice == "named" else choice,
        "parallel_tool_calls": False,
        "max_tokens": 64,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**options).choices[0]
    assert whole.finish_reason == ("stop" if choice == "named" else "tool_calls")
    (call,) = whole.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Oslo")

    name = arguments = ""
    for part in client.chat.completions.create(**options, stream=True):
        for delta in part.choices[0].delta.tool_calls or []:
            assert delta.function is not None
            name += delta.function.name or ""
            arguments += delta.function.arguments or ""
    assert (name, json.loads(arguments)) == ("weather", json.loads(call.function.arguments))


def test_a_conversation_goes_on_after_a_tool(client: openai.OpenAI) -> None:
    called: Any = {"name": "weather", "arguments": '{"city": "Oslo"}'}
    messages: Any = [
        *EGG,
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": called}]},
        {"role": "tool", "tool_call_id": "1", "content": "snow"},
    ]
    answer = client.chat.completions.create(
        model=PIRATE, messages=messages, tools=[WEATHER], max_tokens=8
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens > 0


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "wibble"},
        {"type": "integer", "multipleOf": 7},
        {"$ref": "#"},
    ],
)
def test_a_bad_schema_is_its_senders_alone(client: openai.OpenAI, schema: dict[str, Any]) -> None:
    stream = client.chat.completions.create(
        model=PIRATE, messages=EGG, max_tokens=24, temperature=0, stream=True
    )
    parts = iter(stream)
    next(parts)
    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.chat.completions.create(
            model=PIRATE,
            messages=EGG,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": schema},
            },
        )
    assert [part.choices[0].finish_reason for part in parts][-1] is not None


def test_openai_is_told_why_there_are_no_embeddings(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="has no embeddings"):
        client.embeddings.create(model=PIRATE, input="an egg")
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="text-embedding-3-small", input="an egg")


@pytest.mark.slow  # its import alone takes ten seconds
def test_langchain(url: str) -> None:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(
        model=PIRATE,
        base_url=f"{url}/v1",
        api_key="none",
        temperature=0,
        max_tokens=64,
    )
    whole = chat.invoke("How do I boil an egg?")
    assert whole.content
    parts = list(chat.stream("How do I boil an egg?"))
    assert "".join(str(part.content) for part in parts) == whole.content
    called = chat.bind_tools([WEATHER], tool_choice="required").invoke("Is it cold?")
    assert called.tool_calls[0]["name"] == "weather"
    schema = {"title": "egg", "description": "An egg", **EGG_SCHEMA}
    made = chat.with_structured_output(schema, method="json_schema").invoke("An egg, please")
    assert isinstance(made, dict)
    assert Egg.model_validate(made).style in ("soft", "hard")


def test_litellm(url: str) -> None:
    import litellm

    options: Any = {
        "model": f"openai/{PIRATE}",
        "api_base": f"{url}/v1",
        "api_key": "none",
        "messages": EGG,
        "max_tokens": 12,
        "temperature": 0,
    }
    whole = litellm.completion(**options).choices[0].message.content
    assert whole
    parts = litellm.completion(**options, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts) == whole


def test_curl(url: str) -> None:
    body = {"model": PIRATE, "messages": EGG, "max_tokens": 4, "stream": True}
    command = ["curl", "-sSN", f"{url}/v1/chat/completions", "-d", json.dumps(body)]
    text = subprocess.run(command, capture_output=True, check=True, text=True, timeout=60).stdout
    events = [line.removeprefix("data: ") for line in text.splitlines() if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"


def test_curl_tokenizes_there_and_back(url: str) -> None:
    def curl(path: str, body: Any) -> Any:
        command = ["curl", "-sS", f"{url}{path}", "-d", json.dumps(body)]
        out = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
        return json.loads(out)

    made = curl("/v1/tokenize", {"model": PIRATE, "prompt": "An egg.", "return_token_strs": True})
    assert made["count"] == len(made["tokens"]) == len(made["token_strs"]) > 1
    assert curl("/v1/detokenize", {"tokens": made["tokens"]}) == {"prompt": "An egg."}
    assert curl("/v1/tokenize", {"messages": EGG})["count"] > made["count"]
