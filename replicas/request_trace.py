"""The spans of one request inside a replica: its row, its entry, its tokens."""

from collections.abc import Iterable, Mapping

from contracts.adapters import BASE
from contracts.generation import GenerateRequest, Sampling, TokenDelta
from contracts.tracing import NO_SPAN, NO_TRACER, Span, Tracer


class RequestTrace:
    """From the group's call to the request's end, in parts that follow each other.

    The engine's parts are seen from outside: `engine.prefill` begins when the engine has the
    request, its own queue included, and ends with the first token.
    """

    def __init__(self, tracer: Tracer, request: GenerateRequest) -> None:
        self._tracer = tracer
        self._whole: Span = tracer.child("replica", request.traceparent)
        self._whole.note(prompt_tokens=request.num_input_tokens)
        self._part = tracer.child("replica.fetch", self._whole.traceparent)
        self._num_tokens = 0
        self._num_open_choices = request.sampling.n

    def queued(self) -> None:
        """The engine is full."""
        self._next("replica.queue")

    def admitted(self) -> None:
        """There is a place; the row may have gone meanwhile."""
        self._next("replica.fetch")

    def fetched(self) -> None:
        """The row is on the node, or there is none."""
        self._next("replica.submit")

    def submitted(self) -> None:
        """The engine has the request."""
        self._next("engine.prefill")

    def take(self, delta: TokenDelta) -> None:
        """New tokens, the end of a choice, or an error."""
        if delta.token_ids and not self._num_tokens:
            self._next("engine.decode")
        self._num_tokens += len(delta.token_ids)
        self._num_open_choices -= delta.finish_reason is not None
        if delta.error is not None:
            self.end(delta.error.code)
        elif self._num_open_choices == 0:
            self.end()

    def end(self, error: str = "") -> None:
        """The request has left the replica; `error` is an error's code. Counts once."""
        self._part.end(error)
        self._whole.note(generated_tokens=self._num_tokens)
        self._whole.end(error)
        self._part = self._whole = NO_SPAN

    def _next(self, name: str) -> None:
        self._part.end()
        self._part = self._tracer.child(name, self._whole.traceparent)


class GroupTrace:
    """The traces of a group's requests, by their places; those that nobody records cost nothing."""

    def __init__(self, tracer: Tracer, requests: Iterable[GenerateRequest]) -> None:
        self._traces: Mapping[int, RequestTrace] = {
            index: RequestTrace(tracer, request)
            for index, request in enumerate(requests)
            if request.traceparent
        }

    def __getitem__(self, index: int) -> RequestTrace:
        return self._traces.get(index, _NOBODY)

    def take(self, deltas: Iterable[TokenDelta]) -> None:
        """What a step has brought, errors among it."""
        if not self._traces:
            return
        for delta in deltas:
            self[delta.index].take(delta)

    def close(self) -> None:
        """End those that have not."""
        for trace in self._traces.values():
            trace.end("abort")


_NOBODY = RequestTrace(NO_TRACER, GenerateRequest("", BASE, (), Sampling(0)))
