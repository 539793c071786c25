from typing import Any

import pytest

from tests.app.bodies import CHAT, post
from tests.app.parts import MAX_LEN


async def test_a_prompt_there_and_back() -> None:
    made = (await post({"model": "tiny", "prompt": "héllo"}, "/v1/tokenize")).json()
    assert made == {
        "count": 6, "max_model_len": MAX_LEN, "tokens": made["tokens"], "token_strs": None,
    }  # fmt: skip
    back = await post({"tokens": made["tokens"]}, "/v1/detokenize")
    assert back.json() == {"prompt": "héllo"}


async def test_a_chat_counts_as_the_chat_route_counts_it() -> None:
    asked = {"model": "tiny", "messages": CHAT["messages"], "return_token_strs": True}
    made = (await post(asked, "/v1/tokenize")).json()
    answer = (await post(CHAT)).json()
    assert made["count"] == len(made["token_strs"]) == answer["usage"]["prompt_tokens"]
    assert made["token_strs"][0] == "<|im_start|>"


async def test_a_chat_may_end_open() -> None:
    messages = [*CHAT["messages"], {"role": "assistant", "content": "So"}]
    asked = {"messages": messages, "continue_final_message": True}
    made = (await post(asked, "/v1/tokenize")).json()
    text = (await post({"tokens": made["tokens"]}, "/v1/detokenize")).json()["prompt"]
    assert text.endswith("assistant\nSo")


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("/v1/tokenize", {}, 400, "prompt"),
        ("/v1/tokenize", {"prompt": "a", "messages": CHAT["messages"]}, 400, "prompt"),
        ("/v1/tokenize", {"prompt": "a", "x": 1}, 400, "x"),
        ("/v1/tokenize", {"prompt": "a", "model": "other"}, 404, "model"),
        ("/v1/detokenize", {"tokens": [10**6]}, 400, "tokens"),
        ("/v1/detokenize", {"tokens": [-1]}, 400, "tokens.0"),
        ("/v1/detokenize", {"tokens": [1], "model": "other"}, 404, "model"),
    ],
)
async def test_what_is_refused(path: str, body: Any, status: int, param: str) -> None:
    answer = await post(body, path)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param
