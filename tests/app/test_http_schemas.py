"""What the generation routes refuse, by the name of the field."""

from typing import Any

import orjson
import pytest

from tests.app.bodies import CHAT, TEXT, post
from tests.app.parts import VOCAB, CountingReplica

TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
BAD_CALL = {**CALL, "function": {"name": "look_up", "arguments": "[1]"}}
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
    ({**CHAT, "tools": [TOOL]}, "tools"),
    ({**CHAT, "tools": [{**TOOL, "extra": 1}]}, "tools.0.extra"),
    ({**CHAT, "tools": [{"type": "function", "function": {"name": "a b"}}]},
     "tools.0.function.name"),
    ({**CHAT, "tool_choice": "required"}, "tool_choice"),
    ({**CHAT, "response_format": {"type": "json_schema"}}, "response_format"),
    ({**CHAT, "response_format": {"type": "xml"}}, "response_format.type"),
    ({**CHAT, "structured_outputs": {}}, "structured_outputs"),
    ({**CHAT, "structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs"),
    ({**CHAT, "response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
     "response_format"),
    ({**CHAT, "messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]},
     "messages.0.tool_calls"),
    ({**CHAT, "messages": [{"role": "assistant", "tool_calls": [BAD_CALL]}]},
     "messages"),
    ({**CHAT, "continue_final_message": True, "add_generation_prompt": True},
     "continue_final_message"),
    ({**CHAT, "chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs"),
    ({**CHAT, "chat_template_kwargs": {"tools": None}}, "chat_template_kwargs"),
    ({**CHAT, "cache_salt": "x"}, "cache_salt"),
    ({**CHAT, "return_token_ids": 1}, "return_token_ids"),
    ({**CHAT, "resume_token_ids": [1, 2, 3]}, "resume_token_ids"),
    ({**CHAT, "resume_token_ids": [5000]}, "resume_token_ids"),
    ({**CHAT, "resume_token_ids": [-1]}, "resume_token_ids.0"),
    ({**CHAT, "resume_token_ids": "1"}, "resume_token_ids"),
    ({**CHAT, "resume_token_ids": [1], "n": 2}, "resume_token_ids"),
    ({**CHAT, "resume_token_ids": [1], "tools": [TOOL]}, "resume_token_ids"),
    ({**CHAT, "truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
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
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a+"}}, "structured_outputs"),
        ({"guided_regex": "a+"}, "guided_regex"),
        ({"allowed_token_ids": [5000]}, "allowed_token_ids"),
        ({"suffix": "x"}, "suffix"),
        ({"resume_token_ids": [1], "prompt": ["a", "b"]}, "resume_token_ids"),
        ({"resume_token_ids": [1], "echo": True}, "resume_token_ids"),
        ({"resume_token_ids": [1], "best_of": 2}, "resume_token_ids"),
        ({"resume_token_ids": [VOCAB]}, "resume_token_ids"),
        ({"resume_token_ids": [1] * 16, "max_tokens": None}, "resume_token_ids"),
        ({"resume_token_ids": [1] * 600, "max_tokens": 601}, "max_tokens"),
    ],
)
async def test_a_bad_text_completion_is_refused(change: dict[str, Any], param: str) -> None:
    response = await post({**TEXT, **change}, "/v1/completions")
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"].split(".")[0] == param
