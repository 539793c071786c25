"""What is known of the request at hand, for its log line, its spans and the metrics."""

import re
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass

from contracts.access import Caller
from contracts.tracing import NO_SPAN, Span

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")


@dataclass(slots=True, weakref_slot=True, eq=False)
class RequestContext:
    """One request from outside, from its first byte to its last. Fields are filled as they become
    known: `answer_id` is the id in the answer, which the ids of its prompts begin with. `wait` is
    the span of its wait for a window, `began_s` its beginning by a monotonic clock.
    """

    request_id: str = ""
    span: Span = NO_SPAN
    wait: Span = NO_SPAN
    began_s: float = 0.0
    caller: Caller | None = None
    answer_id: str = ""
    model: str = ""
    outcome: str = ""
    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_generated_tokens: int = 0

    @property
    def trace_id(self) -> str:
        """Empty where nothing is recorded."""
        return self.span.traceparent[3:35]


_CURRENT: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def current_request() -> RequestContext:
    """The request that this task works for; outside of any, an empty one that nobody keeps."""
    return _CURRENT.get() or RequestContext()


def enter_request(context: RequestContext) -> Callable[[], None]:
    """Make `context` the current one of this task and its children; gives the way back."""
    _CURRENT.set(context)

    def leave() -> None:
        # A stream's end may come in another task than its beginning.
        if _CURRENT.get() is context:
            _CURRENT.set(None)

    return leave


def request_id_of(given: str | None, new_id: Callable[[], str]) -> str:
    """The caller's own id where it is short and plain, else a new one."""
    return given if given and _REQUEST_ID.fullmatch(given) else new_id()
