"""Where a request's time goes, as spans. Knows nothing of who collects them.

A span's place in a trace travels as a W3C `traceparent`; an empty one means "nobody records this",
and all below it costs nothing.
"""

from typing import Protocol


class Span(Protocol):
    """A named stretch of one request's time. It holds counts and codes, never a text or a key."""

    @property
    def traceparent(self) -> str:
        """The parent for whatever is below; empty where nothing is recorded."""
        ...

    def note(self, **facts: str | int | float) -> None:
        """Add what is known by now."""
        ...

    def end(self, error: str = "") -> None:
        """The time is over; `error` is an error's code. Once only."""
        ...


class Tracer(Protocol):
    """Starts spans. Nothing here waits or raises."""

    def root(self, name: str, traceparent: str) -> Span:
        """The span of a request from outside, below what it sent; decides if it is recorded."""
        ...

    def child(self, name: str, traceparent: str) -> Span:
        """A span below a recorded one."""
        ...

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""
        ...


class NoSpan:
    """What is not recorded."""

    traceparent = ""

    def note(self, **facts: str | int | float) -> None:
        """See Span."""

    def end(self, error: str = "") -> None:
        """See Span."""


NO_SPAN = NoSpan()


class NoTracer:
    """Records nothing."""

    def root(self, name: str, traceparent: str) -> Span:
        """See Tracer."""
        return NO_SPAN

    def child(self, name: str, traceparent: str) -> Span:
        """See Tracer."""
        return NO_SPAN

    def close(self) -> None:
        """See Tracer."""


NO_TRACER = NoTracer()
