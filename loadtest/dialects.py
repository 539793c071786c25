"""How servers want to be asked over HTTP, and what the events of their streams say.

`openai` is the completions API of flora-serve, `vllm serve` and `ray.serve.llm`; `lorax` the
`/generate_stream` of LoRAX, which it has from text-generation-inference.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from loadtest.prompts import text
from loadtest.target import Request


@dataclass(frozen=True, slots=True)
class Event:
    """One event: whether it brings tokens, the answer's length if it says so, and how it ends."""

    has_tokens: bool = False
    num_tokens: int = 0
    error: str = ""
    is_end: bool = False


class Dialect(Protocol):
    """One API: a path, a body, and the meaning of an event's data."""

    path: str

    def body(self, request: Request) -> Mapping[str, Any]:
        """What is posted."""
        ...

    def read(self, data: bytes) -> Event:
        """What stands behind `data:`. Raises ValueError for what is no event of this API."""
        ...


class OpenAi:
    """`POST /v1/completions` with token ids."""

    path = "/v1/completions"

    def body(self, request: Request) -> Mapping[str, Any]:
        """See Dialect."""
        return {
            "model": request.model,
            "prompt": request.prompt,
            "max_tokens": request.num_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def read(self, data: bytes) -> Event:
        """See Dialect."""
        if data == b"[DONE]":
            return Event(is_end=True)
        event = _as_object(data)
        if "error" in event:
            return Event(error=error_code(event))
        usage = event.get("usage") or {}
        return Event(bool(event.get("choices")), int(usage.get("completion_tokens", 0)))


class Lorax:
    """`POST /generate_stream`; the adapter is a parameter, and a model named "" is the base."""

    path = "/generate_stream"

    def body(self, request: Request) -> Mapping[str, Any]:
        """See Dialect."""
        parameters: dict[str, Any] = {
            "max_new_tokens": request.num_tokens,
            "do_sample": False,
            "ignore_eos_token": True,
            "details": True,
        }
        if request.model:
            parameters["adapter_id"] = request.model
        return {"inputs": text(request.prompt), "parameters": parameters}

    def read(self, data: bytes) -> Event:
        """See Dialect. The last token's event has the whole text beside it."""
        event = _as_object(data)
        if "error" in event:
            return Event(error=error_code(event))
        details = event.get("details") or {}
        is_end = event.get("generated_text") is not None
        return Event(
            event.get("token") is not None, int(details.get("generated_tokens", 0)), "", is_end
        )


DIALECTS: Mapping[str, Dialect] = {"openai": OpenAi(), "lorax": Lorax()}


def error_code(body: Mapping[str, Any]) -> str:
    """The stable part of an error: its code, its type, or what there is."""
    error = body.get("error", body)
    if isinstance(error, Mapping):
        found = error.get("code") or error.get("type") or "error"
    else:
        found = body.get("error_type") or "error"
    return str(found)[:80]


def _as_object(data: bytes) -> dict[str, Any]:
    event = json.loads(data)
    if not isinstance(event, dict):
        raise ValueError("an event is a JSON object")
    return event
