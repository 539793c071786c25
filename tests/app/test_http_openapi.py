"""The OpenAPI document, held against what the server answers."""

from functools import cache
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from app.http_api import create_app
from app.http_openapi import SHAPES
from tests.app.bodies import CHAT, TEXT
from tests.app.parts import MAX_LEN, make_client, make_door, publish

ADAPTER = "/v1/adapters/pirate"
LOGPROBS = {"logprobs": True, "top_logprobs": 2}
TOKENS = {"return_token_ids": True}
STREAM = {"stream": True, "stream_options": {"include_usage": True}}
ANSWERS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/chat/completions", CHAT),
    ("POST", "/v1/chat/completions", {**CHAT, **LOGPROBS, "n": 2}),
    ("POST", "/v1/chat/completions", {**CHAT, "model": "tiny:polite"}),
    ("POST", "/v1/chat/completions", {**CHAT, "return_token_ids": True, "resume_token_ids": [0]}),
    ("POST", "/v1/chat/completions", {**CHAT, "model": "tiny:nobody"}),
    ("POST", "/v1/chat/completions", {**CHAT, "colour": 1}),
    ("POST", "/v1/chat/completions", {**CHAT, "max_tokens": MAX_LEN + 1}),
    ("POST", "/v1/chat/completions", {**CHAT, "user": "x" * 3_000_000}),
    ("POST", "/v1/chat/completions", {**CHAT, "model": "tiny:broken"}),
    ("POST", "/v1/completions", TEXT),
    ("POST", "/v1/completions", {**TEXT, "logprobs": 2, "echo": True, "best_of": 2}),
    ("POST", "/v1/completions", {**TEXT, "return_token_ids": True, "resume_token_ids": [0]}),
    ("POST", "/v1/tokenize", {"prompt": "hi", "return_token_strs": True}),
    ("POST", "/v1/detokenize", {"tokens": [1]}),
    ("POST", "/v1/embeddings", {"model": "tiny", "input": "hi"}),
    ("POST", "/v1/audio/transcriptions", {"no": "form"}),
    ("GET", "/v1/models", None),
    ("GET", "/v1/models?limit=0", None),
    ("GET", "/v1/models/tiny", None),
    ("GET", "/v1/models/other", None),
    ("GET", "/v1/adapters", None),
    ("GET", ADAPTER, None),
    ("GET", "/v1/adapters/nobody", None),
    ("PUT", f"{ADAPTER}/pin", None),
    ("DELETE", f"{ADAPTER}/pin", None),
    ("POST", f"{ADAPTER}/prefetch", None),
    ("POST", f"{ADAPTER}/rollback", {"version": 1}),
    ("POST", f"{ADAPTER}/rollback", {"version": 0}),
    ("PUT", f"{ADAPTER}/shares/them", None),
    ("DELETE", f"{ADAPTER}/shares/them", None),
    ("PUT", f"{ADAPTER}/public", None),
    ("DELETE", f"{ADAPTER}/public", None),
    ("PUT", ADAPTER, {"not": "an adapter"}),
    ("DELETE", ADAPTER, None),
    ("GET", "/healthz", None),
    ("GET", "/readyz", None),
    ("GET", "/metrics", None),
    ("GET", "/v1/replicas", None),
    ("GET", "/v1/usage", None),
    ("GET", "/v1/usage?by=model&hours=0", None),
]


@cache
def document() -> dict[str, Any]:
    made: dict[str, Any] = create_app(make_door()).openapi()
    return made


def operation(method: str, path: str) -> dict[str, Any]:
    """What the document says of the route that serves `path`."""
    plain = path.partition("?")[0]
    for template, methods in document()["paths"].items():
        parts = [(part, given) for part, given in zip(
            template.split("/"), plain.split("/"), strict=False
        )]  # fmt: skip
        is_same_length = template.count("/") == plain.count("/")
        if is_same_length and all(p == g or p.startswith("{") for p, g in parts):
            found: dict[str, Any] = methods.get(method.lower(), {})
            if found:
                return found
    raise AssertionError(f"{method} {path} is not in the document")


def check(schema: dict[str, Any], value: Any) -> None:
    whole = {**schema, "components": document()["components"]}
    Draft202012Validator(whole).validate(value)


@pytest.mark.parametrize(("method", "path", "body"), ANSWERS)
async def test_an_answer_is_as_the_document_says(method: str, path: str, body: Any) -> None:
    door = make_door()
    for name in ("pirate", "polite", "broken"):
        await publish(door.store, name)
    async with make_client(door) as client:
        content = b"" if body is None else orjson.dumps(body)
        answer = await client.request(method, path, content=content)
    said = operation(method, path)["responses"]
    assert str(answer.status_code) in said, answer.text[:200]
    content_types = said[str(answer.status_code)]["content"]
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in content_types
    if kind == "application/json":
        check(content_types[kind]["schema"], answer.json())


@pytest.mark.parametrize(
    ("path", "body", "chunk"),
    [
        ("/v1/chat/completions", {**CHAT, **STREAM, **LOGPROBS}, "ChatCompletionChunk"),
        ("/v1/completions", {**TEXT, **STREAM, "logprobs": 1}, "Completion"),
        ("/v1/chat/completions", {**CHAT, **STREAM, **TOKENS}, "ChatCompletionChunk"),
        ("/v1/completions", {**TEXT, **STREAM, **TOKENS}, "Completion"),
    ],
)
async def test_every_event_of_a_stream_is_as_the_document_says(
    path: str, body: Any, chunk: str
) -> None:
    async with make_client(make_door()) as client:
        answer = await client.post(path, content=orjson.dumps(body))
    events = [e.removeprefix("data: ") for e in answer.text.split("\n\n") if e]
    assert events.pop() == "[DONE]"
    assert len(events) > 3
    for event in events:
        check({"$ref": f"#/components/schemas/{chunk}"}, orjson.loads(event))
    kinds = operation("POST", path)["responses"]["200"]["content"]
    assert chunk in kinds["text/event-stream"]["schema"]["description"]


@pytest.mark.parametrize("route", [route for route, shape in SHAPES.items() if shape.body])
def test_every_example_is_a_good_body(route: str) -> None:
    method, path = route.split()
    content = operation(method, path)["requestBody"]["content"]["application/json"]
    check(content["schema"], content["example"])
    shape = SHAPES[route]
    assert shape.body is not None
    made = shape.body.model_validate_json(orjson.dumps(content["example"]))
    assert made.model_fields_set == set(content["example"])


def test_bodies_are_closed_and_every_reference_is_there() -> None:
    schemas = document()["components"]["schemas"]
    for name, schema in schemas.items():
        if schema.get("type") == "object":
            assert schema["additionalProperties"] is False, name
    text = orjson.dumps(document()).decode()
    wanted = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert wanted <= schemas.keys()


def test_every_route_names_its_key_and_its_errors() -> None:
    for path, methods in document()["paths"].items():
        for method, said in methods.items():
            assert "422" not in said["responses"]
            if path not in ("/healthz", "/readyz"):
                assert said["security"], f"{method} {path}"
                assert {"401", "403", "500", "503"} <= said["responses"].keys()
