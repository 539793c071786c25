"""A client that follows one answer to its end, whatever breaks on the way, and notes what it saw.

It asks for the ids of its tokens. Where its connection is lost it asks again for what is behind
them, as the API allows; everything else has to be hidden from it.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

_PAUSE_S = 0.2
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Question:
    """A greedy request for exactly `num_tokens` tokens."""

    model: str
    prompt: str
    num_tokens: int


@dataclass(slots=True)
class Story:
    """What one client saw: tokens with their times, what it was refused, and how it ended.

    `refusals` counts 503 with Retry-After, to be had only before the first token of a connection,
    `lost_at_s` are the times at which its connection broke; `failure` is empty for a whole answer.
    """

    began_at_s: float
    token_ids: list[int] = field(default_factory=list)
    token_at_s: list[float] = field(default_factory=list)
    refusals: int = 0
    lost_at_s: list[float] = field(default_factory=list)
    ended_at_s: float = 0.0
    failure: str = ""


async def follow(http: httpx.AsyncClient, question: Question) -> Story:
    """One answer from its first request to its last token."""
    story = Story(time.monotonic())
    while time.monotonic() - story.began_at_s < _PATIENCE_S:
        if len(story.token_ids) >= question.num_tokens:
            # The connection broke between the last token and the end.
            story.ended_at_s = story.token_at_s[-1]
            return story
        try:
            pause_s = await _read(http, question, story)
        except httpx.TransportError:
            story.lost_at_s.append(time.monotonic())
            pause_s = _PAUSE_S
        if story.ended_at_s:
            return story
        await asyncio.sleep(pause_s)
    story.failure = "it never ended"
    return story


async def _read(http: httpx.AsyncClient, question: Question, story: Story) -> float:
    """One connection, to its end; how long to wait before the next."""
    body = _body(question, story.token_ids)
    async with http.stream("POST", "/v1/completions", json=body) as answer:
        if answer.status_code == 503 and "retry-after" in answer.headers:
            story.refusals += 1
            return float(answer.headers["retry-after"])
        if answer.status_code != 200:
            await answer.aread()
            _fail(story, f"{answer.status_code}: {answer.text[:200]}")
            return 0.0
        async for line in answer.aiter_lines():
            if line.startswith("data: ") and _take(line.removeprefix("data: "), story):
                return 0.0
    story.lost_at_s.append(time.monotonic())
    return _PAUSE_S


def _take(event: str, story: Story) -> bool:
    """One event; True where nothing follows."""
    if event == "[DONE]":
        story.ended_at_s = story.ended_at_s or time.monotonic()
        return True
    data: Mapping[str, Any] = orjson.loads(event)
    if "error" in data:
        _fail(story, str(data["error"]))
        return True
    now_s = time.monotonic()
    for choice in data["choices"]:
        token_ids = choice.get("token_ids") or []
        story.token_ids += token_ids
        story.token_at_s += [now_s] * len(token_ids)
    return False


def _fail(story: Story, why: str) -> None:
    story.failure = why
    story.ended_at_s = time.monotonic()


def _body(question: Question, token_ids: list[int]) -> dict[str, Any]:
    body = {
        "model": question.model,
        "prompt": question.prompt,
        "max_tokens": question.num_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "return_token_ids": True,
    }
    return body | ({"resume_token_ids": token_ids} if token_ids else {})
