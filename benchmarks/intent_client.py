"""Asks a running server for intents, many tenants' at a time, so that they share its batches."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

_MAX_PARALLEL = 64
_MAX_ANSWER_TOKENS = 12
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Question:
    """One prompt for `model`; with `choices` the answer has to be one of them."""

    model: str
    prompt: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """A greedy answer: its text, and its tokens with the log-probability of each."""

    text: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]


async def ask_all(url: str, questions: Sequence[Question]) -> list[Reply]:
    """All of them, `_MAX_PARALLEL` at a time, in the order given. Raises httpx.HTTPError."""
    limit = asyncio.Semaphore(_MAX_PARALLEL)
    async with httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S) as http:

        async def ask(question: Question) -> Reply:
            async with limit:
                response = await http.post("/v1/completions", json=_body(question))
                response.raise_for_status()
                return _reply(response.json()["choices"][0])

        return await asyncio.gather(*map(ask, questions))


def _body(question: Question) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": question.model,
        "prompt": question.prompt,
        "max_tokens": _MAX_ANSWER_TOKENS,
        "temperature": 0,
        "logprobs": 0,
        "return_token_ids": True,
    }
    if question.choices:
        body["structured_outputs"] = {"choice": list(question.choices)}
    return body


def _reply(choice: dict[str, Any]) -> Reply:
    return Reply(
        choice["text"],
        tuple(choice["prompt_token_ids"]),
        tuple(choice["token_ids"]),
        tuple(choice["logprobs"]["token_logprobs"]),
    )
