"""What every OpenAI answer is made of, whatever its shape. Knows nothing of HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from contracts.adapters import AdapterKey
from contracts.errors import EngineFailed
from contracts.generation import TokenDelta

EVENT_START = b"data: "
EVENT_END = b"\n\n"
DONE_EVENT = b"data: [DONE]\n\n"
_FINGERPRINT_DIGITS = 16


@dataclass(frozen=True, slots=True)
class AnswerHead:
    """What all chunks of an answer repeat. `created_at_s` is Unix time in whole seconds.

    `fingerprint` names what answers; it is known once the first token is there.
    """

    id: str
    model: str
    created_at_s: int
    fingerprint: str = ""

    def top(self, kind: str) -> dict[str, Any]:
        """The first fields of every object of the API."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created_at_s,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


def fingerprint_of(adapter: AdapterKey | None) -> str:
    """`system_fingerprint`: equal for equal bytes of an adapter, whatever its name or version."""
    if adapter is None or adapter.is_base:
        return "fp_base"
    return f"fp_{adapter.digest[:_FINGERPRINT_DIGITS]}"


@dataclass(slots=True)
class Usage:
    """Counts up while the tokens pass."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0

    def count(self, deltas: Sequence[TokenDelta]) -> None:
        """Add one burst. Raises EngineFailed where the engine gave a request up."""
        for delta in deltas:
            self.completion_tokens += len(delta.token_ids)
            if delta.num_cached_tokens > self.cached_tokens:
                self.cached_tokens = delta.num_cached_tokens
            if delta.finish_reason in ("abort", "error"):
                raise EngineFailed("The engine gave the request up.")

    def to_dict(self) -> dict[str, Any]:
        """The `usage` object of the API."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


@dataclass(slots=True)
class Collected:
    """All deltas of one choice, for an answer in one piece."""

    deltas: list[TokenDelta] = field(default_factory=list)

    @property
    def finish_reason(self) -> str | None:
        return self.deltas[-1].finish_reason if self.deltas else None

    @property
    def text(self) -> str:
        return "".join(delta.text for delta in self.deltas)

    @property
    def token_ids(self) -> list[int]:
        return [token_id for delta in self.deltas for token_id in delta.token_ids]

    @property
    def mean_logprob(self) -> float:
        """What `best_of` ranks by."""
        drawn = [token.logprob for delta in self.deltas for token in delta.logprobs]
        return sum(drawn) / len(drawn) if drawn else float("-inf")


class AnswerFormat(Protocol):
    """One request's answer on the wire. `choice` is the index that the client sees.

    `sign` comes before anything else, once it is known what answers.
    """

    def sign(self, fingerprint: str) -> None:
        """Name what answers."""
        ...

    def opening(self) -> bytes:
        """Events before the first token."""
        ...

    def event(self, choice: int, delta: TokenDelta) -> bytes:
        """The event of one delta; empty where there is nothing to tell yet."""
        ...

    def usage_event(self, usage: Usage) -> bytes:
        """The last event before DONE; empty where the client did not ask for it."""
        ...

    def body(self, choices: Sequence[Collected], usage: Usage) -> bytes:
        """The whole answer in one piece."""
        ...
