"""Whom a run asks: one request as every wire has it, and what a client of a wire can do."""

from dataclasses import dataclass
from typing import Protocol

from loadtest.outcome import OK, Stopwatch

TIMEOUT, BROKEN, UNREACHABLE, SHORT = "timeout", "broken", "unreachable", "short"
"""Codes of requests that got no error from the server: no whole answer in time, an end
before the end, no answer at all, fewer tokens than asked for."""


@dataclass(frozen=True, slots=True)
class Request:
    """One streamed, greedy answer of exactly `num_tokens` tokens. `key` is an API key or empty."""

    model: str
    prompt: tuple[int, ...]
    num_tokens: int
    key: str = ""


class Client(Protocol):
    """Asks a server over one wire, from many greenlets or threads at a time."""

    def stream(self, request: Request, watch: Stopwatch) -> str:
        """Follow one answer to its end: "ok", or what went wrong. Raises nothing that a server
        or a network can cause.
        """
        ...

    def close(self) -> None:
        """Hang up."""
        ...


def verdict(request: Request, watch: Stopwatch) -> str:
    """Of an answer that has ended in order: whether it is as long as asked, as far as it says."""
    return SHORT if 0 < watch.num_tokens < request.num_tokens else OK
