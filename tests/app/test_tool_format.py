from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from app.answer_format import AnswerHead, Collected, Usage
from app.chat_format import ChatFormat
from app.structure import Parsed
from app.tool_format import ToolFormat
from contracts.generation import TokenDelta, TokenLogprob

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


class Reader:
    """Reads "call" as a call, keeps "..." back, and passes everything else on."""

    def take(self, delta: TokenDelta) -> Mapping[str, Any]:
        if delta.text == "call":
            return {"tool_calls": [{"index": 0, **CALL}]}
        return {} if delta.text in ("...", "") else {"content": delta.text}

    def whole(self, text: str, token_ids: Sequence[int]) -> Parsed:
        return Parsed(None, [CALL]) if "call" in text else Parsed(text)


def make_format(
    *,
    named: bool = False,
    logprobs: bool = False,
    n: int = 1,
    prompt: Sequence[int] | None = None,
) -> ToolFormat:
    head = AnswerHead("id", "m", 5)
    chat = ChatFormat(
        head, num_choices=n, include_usage=False, logprobs=logprobs, prompt_token_ids=prompt
    )
    return ToolFormat(chat, [Reader() for _ in range(n)], named=named)


def choice_of(event: bytes) -> dict[str, Any]:
    made: dict[str, Any] = orjson.loads(event.removeprefix(b"data: "))["choices"][0]
    return made


def said(text: str, finish_reason: str | None = None) -> TokenDelta:
    return TokenDelta(0, 0, (1,), text, finish_reason=finish_reason)


@pytest.mark.parametrize(
    ("named", "engine", "told"),
    [(False, "stop", "tool_calls"), (True, "stop", "stop"), (False, "length", "length")],
)
def test_a_call_ends_as_the_api_has_it(named: bool, engine: str, told: str) -> None:
    wire = make_format(named=named)
    assert choice_of(wire.event(0, said("call")))["delta"]["tool_calls"][0]["id"] == "c"
    assert choice_of(wire.event(0, said("", engine)))["finish_reason"] == told
    whole = orjson.loads(wire.body([Collected([said("call", engine)])], Usage(1)))["choices"][0]
    assert whole["finish_reason"] == told
    assert whole["message"] == {
        "role": "assistant", "content": None, "tool_calls": [CALL], "refusal": None,
    }  # fmt: skip


def test_text_without_a_call_is_a_plain_answer() -> None:
    wire = make_format()
    assert wire.event(0, said("...")) == b""
    assert choice_of(wire.event(0, said("hi")))["delta"] == {"content": "hi"}
    assert choice_of(wire.event(0, said("", "stop")))["finish_reason"] == "stop"
    whole = orjson.loads(wire.body([Collected([said("hi", "stop")])], Usage(1)))["choices"][0]
    assert whole["message"] == {"role": "assistant", "content": "hi", "refusal": None}


def test_a_client_that_wants_the_tokens_has_them_all() -> None:
    wire = make_format(prompt=[7, 8])
    assert b'"prompt_token_ids":[7,8]' in wire.opening()
    silent = choice_of(wire.event(0, said("...")))
    assert (silent["delta"], silent["token_ids"]) == ({}, [1])
    whole = orjson.loads(wire.body([Collected([said("call", "stop")])], Usage(1)))
    assert (whole["prompt_token_ids"], whole["choices"][0]["token_ids"]) == ([7, 8], [1])


def test_choices_are_read_apart() -> None:
    wire = make_format(n=2)
    wire.event(0, said("call"))
    assert choice_of(wire.event(1, said("", "stop")))["finish_reason"] == "stop"


def test_log_probabilities_of_what_is_kept_back_are_told() -> None:
    wire = make_format(logprobs=True)
    delta = TokenDelta(0, 0, (1,), "...", (TokenLogprob(1, "...", -0.5),))
    event = choice_of(wire.event(0, delta))
    assert event["delta"] == {}
    assert event["logprobs"]["content"][0]["logprob"] == -0.5
