"""The spans of requests in a window: its one look-up, and the call to a replica."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from app.ask import Ask
from app.request_observer import RequestEnd
from contracts.access import Caller
from contracts.generation import GenerateRequest
from contracts.tracing import NO_TRACER, Span, Tracer


class RequestSpans:
    """A RequestObserver. Requests that nobody records cost one look at their `traceparent`."""

    def __init__(self, tracer: Tracer = NO_TRACER) -> None:
        self._tracer = tracer
        self._calls: dict[str, Span] = {}

    def resolving(self, asks: Sequence[Ask]) -> Callable[[object], None]:
        """The look-up of `asks` begins; what comes back is called with its result."""
        spans = [self._child("window.resolve", ask.traceparent) for ask in asks if ask.traceparent]

        def ended(_: object) -> None:
            for span in spans:
                span.end()

        return ended

    def calling(self, requests: tuple[GenerateRequest, ...]) -> tuple[GenerateRequest, ...]:
        """The group leaves: its requests as the replica gets them, each below its call's span."""
        if not any(request.traceparent for request in requests):
            return requests
        return tuple(self._call(request, len(requests)) for request in requests)

    def began(self, request_id: str, caller: Caller) -> None:
        """See RequestObserver."""

    def generated(self, request_id: str, caller: Caller, num_tokens: int, gap_s: float) -> None:
        """See RequestObserver."""

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        """See RequestObserver."""
        span = self._calls.pop(request_id, None)
        if span is None:
            return
        if end.ttft_s is not None:
            span.note(ttft_s=end.ttft_s)
        span.note(outcome=end.outcome, generated_tokens=end.num_generated_tokens)
        span.end()

    def _call(self, request: GenerateRequest, group_size: int) -> GenerateRequest:
        if not request.traceparent:
            return request
        span = self._child("window.call", request.traceparent)
        span.note(request_id=request.request_id, group_size=group_size)
        self._calls[request.request_id] = span
        return replace(request, traceparent=span.traceparent)

    def _child(self, name: str, traceparent: str) -> Span:
        return self._tracer.child(name, traceparent)
