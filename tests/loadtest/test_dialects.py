import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.dialects import DIALECTS, Event, error_code
from loadtest.target import Request

REQUEST = Request("base:pirate", (10, 11, 12), 5)


def read(api: str, event: dict[str, Any]) -> Event:
    return DIALECTS[api].read(json.dumps(event).encode())


def test_openai_streams_tokens_then_usage_then_the_end() -> None:
    assert read("openai", {"choices": [{"text": "a"}], "usage": None}) == Event(has_tokens=True)
    assert read("openai", {"choices": [], "usage": {"completion_tokens": 5}}) == Event(num_tokens=5)
    assert DIALECTS["openai"].read(b"[DONE]") == Event(is_end=True)


def test_lorax_ends_with_its_last_token() -> None:
    token = {"id": 5, "text": "a", "logprob": -1.0, "special": False}
    one = {"token": token, "generated_text": None, "details": None}
    assert read("lorax", one) == Event(has_tokens=True)
    last = {"token": token, "generated_text": "", "details": {"generated_tokens": 5}}
    assert read("lorax", last) == Event(has_tokens=True, num_tokens=5, is_end=True)


@pytest.mark.parametrize("api", sorted(DIALECTS))
def test_errors_within_a_stream_are_seen(api: str) -> None:
    assert read(api, {"error": {"code": "engine_failed", "message": "x"}}).error == "engine_failed"
    assert read(api, {"error": "x", "error_type": "overloaded"}).error == "overloaded"


def test_both_ask_for_exactly_as_many_greedy_tokens() -> None:
    body = DIALECTS["openai"].body(REQUEST)
    assert (body["max_tokens"], body["temperature"], body["ignore_eos"]) == (5, 0, True)
    lorax = DIALECTS["lorax"].body(REQUEST)
    assert lorax["parameters"]["adapter_id"] == "base:pirate"
    assert lorax["parameters"]["max_new_tokens"] == 5
    assert len(lorax["inputs"].split()) == 3
    base = DIALECTS["lorax"].body(Request("", (1,), 5))
    assert "adapter_id" not in base["parameters"]


@given(st.sampled_from(sorted(DIALECTS)), st.binary())
def test_garbage_is_a_value_error(api: str, data: bytes) -> None:
    try:
        event = DIALECTS[api].read(data)
    except ValueError:
        return
    assert isinstance(event, Event)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"code": None, "type": "NotFoundError"}}, "NotFoundError"),
        ({"object": "error", "type": "BadRequestError", "code": 400}, "400"),
        ({"detail": "?"}, "error"),
    ],
)
def test_other_servers_errors_have_a_code_too(body: dict[str, Any], code: str) -> None:
    assert error_code(body) == code
