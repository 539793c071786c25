"""What the generation routes refuse, by the name of the field."""

from typing import Any

import orjson
import pytest

from tests.app.bodies import CHAT, TEXT, post
from tests.app.parts import CountingReplica

BAD_CHATS: list[tuple[Any, str | None]] = [
    (b"", None),
    (b"{", None),
    (b"[]", None),
    (b'"\xff"', None),
    (b"[" * 5000, None),
    (b'{"model": NaN}', "model"),
    ({"messages": CHAT["messages"]}, "model"),
    ({**CHAT, "messages": []}, "messages"),
    ({**CHAT, "messages": [{"role": "user"}]}, "messages.0.content"),
    ({**CHAT, "messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
    ({**CHAT, "messages": [*CHAT["messages"], {"role": "system", "content": "x"}]}, "messages"),
    ({**CHAT, "temperature": "1"}, "temperature"),
    ({**CHAT, "temperature": 2.5}, "temperature"),
    ({**CHAT, "top_p": 0}, "top_p"),
    ({**CHAT, "max_tokens": -1}, "max_tokens"),
    ({**CHAT, "max_tokens": True}, "max_tokens"),
    ({**CHAT, "n": 1000}, "n"),
    (orjson.dumps({**CHAT, "seed": 7}).replace(b"7", b"7" * 30), "seed"),
    ({**CHAT, "logit_bias": {"x": 1}}, "logit_bias"),
    ({**CHAT, "logit_bias": {"100000": 1}}, "logit_bias"),
    ({**CHAT, "stop_token_ids": [5000]}, "stop_token_ids"),
    ({**CHAT, "min_tokens": 4}, "min_tokens"),
    ({**CHAT, "top_logprobs": 3}, "top_logprobs"),
    ({**CHAT, "stream_options": {"include_usage": True}}, "stream_options"),
    ({**CHAT, "stream": True, "stream_options": {"x": 1}}, "stream_options.x"),
    ({**CHAT, "tools": []}, "tools"),
    ({**CHAT, "response_format": {"type": "json_object"}}, "response_format"),
    ({**CHAT, "colour": "red"}, "colour"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), BAD_CHATS)
async def test_a_bad_chat_is_refused_by_the_name_of_its_field(body: Any, param: str | None) -> None:
    replica = CountingReplica()
    response = await post(body, replica=replica)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert error["message"]
    assert replica.groups == []


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [10**9]}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
    ],
)
async def test_a_bad_text_completion_is_refused(change: dict[str, Any], param: str) -> None:
    response = await post({**TEXT, **change}, "/v1/completions")
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].split(".")[0] == param
