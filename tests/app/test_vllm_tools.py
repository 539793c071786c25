"""vLLM's own parsers behind the door's interface, and its schema's fields in the door's."""

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from app.http_chat_schemas import ChatBody
from app.http_schemas import NOT_SERVED, CompletionBody
from app.structure import ToolRequest
from app.vllm_tools import VllmTools
from contracts.errors import InvalidRequest
from contracts.generation import Structure, TokenDelta
from tests.app.parts import make_tokenizer

pytestmark = pytest.mark.vllm

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
BODY: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "hi"}],
    "tools": [TOOL],
    "tool_choice": "auto",
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


@pytest.fixture(scope="module")
def tools() -> VllmTools:
    return VllmTools.load("hermes", make_tokenizer())


async def read(tools: VllmTools, **changes: Any) -> ToolRequest:
    return await tools.read({**BODY, **changes})


def stream(request: ToolRequest, pieces: list[str]) -> tuple[str, list[dict[str, str]]]:
    """Content and calls as a client puts them together."""
    reader, content = request.reader(), ""
    calls: list[dict[str, str]] = []
    for place, piece in enumerate(pieces):
        finish = "stop" if place + 1 == len(pieces) else None
        delta = reader.take(TokenDelta(0, 0, tuple(piece.encode()), piece, finish_reason=finish))
        content += delta.get("content", "")
        for call in delta.get("tool_calls", ()):
            if call["index"] == len(calls):
                calls.append({"name": "", "arguments": ""})
            for name, text in call["function"].items():
                calls[call["index"]][name] += text
    return content, calls


@pytest.mark.parametrize(
    ("ours", "theirs"), [(ChatBody, ChatCompletionRequest), (CompletionBody, CompletionRequest)]
)
def test_every_field_of_vllms_schema_is_served_or_refused_by_name(ours: Any, theirs: Any) -> None:
    known = {field.alias or name for name, field in ours.model_fields.items()} | set(NOT_SERVED)
    assert set(theirs.model_fields) - known == set()


async def test_a_whole_answer_is_read_for_calls(tools: VllmTools) -> None:
    parsed = (await read(tools)).reader().whole(f"Well. {CALL}", [])
    (call,) = parsed.tool_calls
    assert parsed.content == "Well. "
    assert call["type"] == "function"
    assert call["id"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}


async def test_text_without_calls_stays_text(tools: VllmTools) -> None:
    request = await read(tools)
    assert request.reader().whole("No <tool", []).content == "No <tool"
    assert stream(request, ["No", " tool"]) == ("No tool", [])


@given(st.lists(st.integers(0, 200), max_size=12))
async def test_a_stream_reads_as_the_whole_does(cuts: list[int]) -> None:
    tools = VllmTools.load("hermes", make_tokenizer())
    text = f"Well. {CALL}\n{CALL}"
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in pairwise(places)]
    request = await read(tools)
    whole = request.reader().whole(text, [])
    content, calls = stream(request, pieces)
    assert content.strip() == (whole.content or "").strip()
    assert [c["name"] for c in calls] == [c["function"]["name"] for c in whole.tool_calls]
    for streamed, read_whole in zip(calls, whole.tool_calls, strict=True):
        said = json.loads(read_whole["function"]["arguments"])
        assert json.loads(streamed["arguments"]) == said


async def test_one_call_alone_where_the_client_wants_one(tools: VllmTools) -> None:
    request = await read(tools, parallel_tool_calls=False)
    assert len(request.reader().whole(CALL + CALL, []).tool_calls) == 1
    assert len(stream(request, [CALL, CALL])[1]) == 1


async def test_only_a_forced_call_binds_the_text(tools: VllmTools) -> None:
    assert (await read(tools)).structure is None
    named = {"type": "function", "function": {"name": "weather"}}
    for choice in ("required", named):
        structure = (await read(tools, tool_choice=choice)).structure
        assert isinstance(structure, Structure)
        assert structure.kind == "structural_tag"
        assert "weather" in structure.spec


async def test_a_clients_own_bound_stays_where_no_call_is_forced(tools: VllmTools) -> None:
    schema = {"name": "x", "schema": {"type": "object"}}
    wanted = {"type": "json_schema", "json_schema": schema}
    request = await read(tools, response_format=wanted)
    assert request.structure == Structure("json_schema", '{"type": "object"}')


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": []}, "tools"),
    ],
)
async def test_what_vllm_refuses_is_the_callers_error(
    tools: VllmTools, changes: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await tools.read({**BODY, **changes})
    assert caught.value.param == param


def test_an_unknown_parser_stops_the_start() -> None:
    with pytest.raises(InvalidRequest, match=r"server\.tool_parser"):
        VllmTools.load("no-such-parser", make_tokenizer())
