"""One request from the opening of its window to its end, and what its observers hear of it."""

import logging
from collections.abc import Callable, Sequence

from app.ask import Ask
from app.request_observer import RequestEnd, RequestObserver
from app.token_stream import TokenStream
from contracts.adapters import BASE
from contracts.generation import TokenDelta

_LOG = logging.getLogger(__name__)
CLOSED = "closed"
"""The outcome of a request whose client left."""


class RequestLife:
    """Begins with its construction; `end` counts once, whoever comes first.

    Times are seconds of one monotonic clock. An observer that raises is logged and passed over.
    """

    __slots__ = (
        "_began_at_s",
        "_finish_reason",
        "_first_at_s",
        "_last_at_s",
        "_num_cached_tokens",
        "_num_generated_tokens",
        "_num_step_tokens",
        "_observers",
        "ask",
        "is_over",
        "stream",
    )

    def __init__(
        self,
        ask: Ask,
        stream: TokenStream,
        observers: Sequence[RequestObserver],
        now_s: float,
    ) -> None:
        self.ask = ask
        self.stream = stream
        self.is_over = False
        self._observers = observers
        self._began_at_s = self._last_at_s = now_s
        self._first_at_s: float | None = None
        self._num_step_tokens = 0
        self._num_generated_tokens = 0
        self._num_cached_tokens = 0
        self._finish_reason = ""
        for observer in observers:
            _tell(observer.began, ask.request_id, ask.caller)

    def push(self, delta: TokenDelta) -> None:
        """One delta of the step at hand; nothing is counted after the end.

        That the engine has the request is nothing for its reader.
        """
        if self.is_over or delta.entered:
            return
        self.stream.push(delta)
        if delta.error is None:
            self._num_step_tokens += len(delta.token_ids)
            self._num_cached_tokens = max(self._num_cached_tokens, delta.num_cached_tokens)
            self._finish_reason = delta.finish_reason or self._finish_reason

    def step(self, now_s: float) -> None:
        """The step has no more deltas of this request."""
        num_tokens, self._num_step_tokens = self._num_step_tokens, 0
        if self.is_over or not num_tokens:
            return
        gap_s, self._last_at_s = now_s - self._last_at_s, now_s
        if self._first_at_s is None:
            self._first_at_s = now_s
        self._num_generated_tokens += num_tokens
        for observer in self._observers:
            _tell(observer.generated, self.ask.request_id, self.ask.caller, num_tokens, gap_s)

    def end(self, now_s: float) -> None:
        """The request is over, as its stream says."""
        if self.is_over:
            return
        self.is_over = True
        first_at_s = self._first_at_s
        end = RequestEnd(
            outcome=self._outcome(),
            num_prompt_tokens=self.ask.num_input_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_generated_tokens=self._num_generated_tokens,
            ttft_s=None if first_at_s is None else first_at_s - self._began_at_s,
            duration_s=now_s - self._began_at_s,
            digest=(self.stream.adapter or BASE).digest,
        )
        for observer in self._observers:
            _tell(observer.ended, self.ask.request_id, self.ask.caller, self.ask.model, end)

    def _outcome(self) -> str:
        if self.stream.error is not None:
            return self.stream.error.code
        return CLOSED if self.stream.closed else self._finish_reason


def _tell(event: Callable[..., None], *news: object) -> None:
    try:
        event(*news)
    except Exception:
        _LOG.exception("an observer of requests failed")
