"""Streams that break off with the real model: the client's next request has the rest."""

import re
from itertools import islice
from typing import Any

import httpx
import openai
import pytest

from tests.end_to_end.real_model.demo import BASE

# What follows is beyond doubt: tokens that are almost as likely may change places, as the engine
# reads resumed tokens all at once.
COUNTING = ", ".join(str(number) for number in range(1, 30)) + ","
NUM_TOKENS = 32
REGEX = r"([a-z]+, )+"

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning"),
]


def read(
    client: openai.OpenAI, resumed: list[int], num_parts: int | None = None, **body: Any
) -> tuple[str, list[int]]:
    """Text and tokens of a stream's first parts."""
    extra = {"return_token_ids": True, "resume_token_ids": resumed, **body.pop("extra", {})}
    given: Any = {"max_tokens": NUM_TOKENS, "temperature": 0, "stream": True, **body}
    with client.completions.create(**given, extra_body=extra) as chunks:
        choices: list[Any] = [chunk.choices[0] for chunk in islice(chunks, num_parts)]
    ids = [token_id for choice in choices for token_id in choice.token_ids]
    return "".join(choice.text for choice in choices), ids


@pytest.mark.parametrize("num_parts", [1, 2, 9, 20])
def test_an_answer_goes_on_where_its_stream_broke_off(
    client: openai.OpenAI, num_parts: int
) -> None:
    body: dict[str, Any] = {"model": BASE, "prompt": COUNTING, "stop": [" 36, 37"]}
    text, ids = read(client, [], **body)
    assert text == " 30, 31, 32, 33, 34, 35,"
    had_text, had_ids = read(client, [], num_parts, **body)
    rest_text, rest_ids = read(client, had_ids, **body)
    assert (had_text + rest_text, had_ids + rest_ids) == (text, ids)


@pytest.mark.parametrize("num_parts", [1, 5, 12])
def test_a_structure_goes_on(url: str, client: openai.OpenAI, num_parts: int) -> None:
    body: dict[str, Any] = {
        "model": f"{BASE}:pirate",
        "prompt": "Once",
        "extra": {"structured_outputs": {"regex": REGEX}},
    }
    had_text, had_ids = read(client, [], num_parts, **body)
    rest_text, rest_ids = read(client, had_ids, **body)
    assert len(had_ids + rest_ids) == NUM_TOKENS
    whole = httpx.post(f"{url}/v1/detokenize", json={"tokens": had_ids + rest_ids}).json()
    assert had_text + rest_text == whole["prompt"]
    # Cut short by its length: what is there may become a match.
    assert re.fullmatch(REGEX, (had_text + rest_text).rstrip(", ") + ", ")


def test_tokens_that_break_the_structure_end_that_answer_alone(url: str) -> None:
    body = {"model": BASE, "prompt": "x", "max_tokens": 8, "temperature": 0}
    bound = {"structured_outputs": {"choice": ["yes", "no"]}, "resume_token_ids": [500, 501]}
    broken = httpx.post(f"{url}/v1/completions", json=body | bound, timeout=60)
    assert (broken.status_code, broken.json()["error"]["code"]) == (500, "engine_failed")
    assert httpx.post(f"{url}/v1/completions", json=body, timeout=60).status_code == 200
