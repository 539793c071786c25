"""Who hears of a request's life: quotas, metrics, usage records. Pure."""

from dataclasses import dataclass
from typing import Protocol

from contracts.access import Caller
from contracts.adapters import Digest


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """How a request ended, once and for all its choices together.

    `outcome` is the last choice's finish reason, an error's code, or "closed" for a client that
    left. `ttft_s` counts from the opening of the window to the first token, None without one;
    `duration_s` to the end. `digest` names the adapter's bytes that answered, "" for the base.
    """

    outcome: str
    num_prompt_tokens: int
    num_cached_tokens: int
    num_generated_tokens: int
    ttft_s: float | None
    duration_s: float
    digest: Digest


class RequestObserver(Protocol):
    """Called in the event loop; nothing here waits or raises."""

    def began(self, request_id: str, caller: Caller) -> None:
        """The request was admitted to a window."""
        ...

    def generated(self, request_id: str, caller: Caller, num_tokens: int, gap_s: float) -> None:
        """A step's new tokens, `gap_s` after the ones before (the first: after the opening)."""
        ...

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        """The request is over; comes once for each that began."""
        ...
