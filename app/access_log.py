"""One log line, one span and one count a request from outside, whichever protocol it came by."""

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from weakref import WeakValueDictionary

from prometheus_client import CollectorRegistry, Counter, Histogram

from app.ask import Ask
from app.request_context import RequestContext, current_request, enter_request, request_id_of
from app.request_observer import RequestEnd
from contracts.access import Caller
from contracts.tracing import NO_SPAN, NO_TRACER, Tracer

_LOG = logging.getLogger(__name__)
_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
    *(10.0, 30.0, 60.0, 300.0, 600.0),
)
MAX_TRACEPARENT_LENGTH = 200
PROBES = frozenset({"GET /healthz", "GET /readyz", "GET /metrics", "GET /v1/replicas"})
"""Routes that machines ask every few seconds; their successes are not worth a line."""


class AccessLog:
    """The requests of one ingress process. As a RequestObserver it learns what they used.

    `is_behind_serve`: Ray Serve gives each HTTP request an id where it has none, and each answer
    the id of its request, whatever that is.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        tracer: Tracer = NO_TRACER,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        clock: Callable[[], float] = time.perf_counter,
        *,
        is_behind_serve: bool = False,
    ) -> None:
        self.is_behind_serve = is_behind_serve
        self.tracer = tracer
        self._new_id = new_id
        self._clock = clock
        self._prompts: WeakValueDictionary[str, RequestContext] = WeakValueDictionary()
        self._requests = Counter(
            "flora_api_requests",
            "Answered requests.",
            ("protocol", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "flora_api_request_seconds",
            "From a request's first byte to its answer's last.",
            ("protocol", "route"),
            buckets=_BUCKETS_S,
            registry=registry,
        )

    def begin(
        self, protocol: str, request_id: str | None = None, traceparent: str | None = None
    ) -> "OpenRequest":
        """A request has come, with the id and the trace context that its sender gave, if any."""
        span = self.tracer.root("door", (traceparent or "")[:MAX_TRACEPARENT_LENGTH])
        context = RequestContext(request_id_of(request_id, self._new_id), span)
        context.began_s = self._clock()
        return OpenRequest(self, protocol, context)

    def admit(self, asks: Sequence[Ask]) -> Sequence[Ask]:
        """The request at hand has these prompts: what they use is its use, and its trace theirs."""
        context = current_request()
        if not asks or not context.request_id:
            return asks
        context.caller = asks[0].caller
        context.answer_id = asks[0].request_id.rpartition("-")[0] or asks[0].request_id
        for ask in asks:
            self._prompts[ask.request_id] = context
        if not (traceparent := context.span.traceparent):
            return asks
        context.wait = self.tracer.child("window.wait", traceparent)
        return [replace(ask, traceparent=traceparent) for ask in asks]

    def age_s(self, prompt_id: str) -> float | None:
        """Since the first byte of the request that a prompt came with; None for an unknown one."""
        context = self._prompts.get(prompt_id)
        return None if context is None else self._clock() - context.began_s

    def began(self, request_id: str, caller: Caller) -> None:
        """See RequestObserver."""
        if (context := self._prompts.get(request_id)) is not None:
            context.wait.end()
            context.wait = NO_SPAN

    def generated(self, request_id: str, caller: Caller, num_tokens: int, gap_s: float) -> None:
        """See RequestObserver."""

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        """See RequestObserver."""
        context = self._prompts.pop(request_id, None)
        if context is None:
            return
        context.model = model
        context.outcome = end.outcome
        context.num_prompt_tokens += end.num_prompt_tokens
        context.num_cached_tokens += end.num_cached_tokens
        context.num_generated_tokens += end.num_generated_tokens

    def _ended(
        self, protocol: str, route: str, status: str, duration_s: float, context: RequestContext
    ) -> None:
        self._requests.labels(protocol, route, status).inc()
        self._seconds.labels(protocol, route).observe(duration_s)
        facts: dict[str, str | int | float] = {"route": route, "status": status}
        if context.answer_id:
            facts |= {
                "answer_id": context.answer_id,
                "model": context.model,
                "outcome": context.outcome,
                "prompt_tokens": context.num_prompt_tokens,
                "cached_tokens": context.num_cached_tokens,
                "generated_tokens": context.num_generated_tokens,
            }
        context.wait.end()
        if context.span.traceparent:
            tenant = context.caller.tenant if context.caller else ""
            context.span.note(request_id=context.request_id, tenant=tenant, **facts)
            context.span.end(status if status.startswith("5") else "")
        extra = {"protocol": protocol, "duration_s": round(duration_s, 6), **facts}
        is_probe = route in PROBES and status == "200"
        _LOG.log(logging.DEBUG if is_probe else logging.INFO, "request", extra=extra)


class OpenRequest:
    """A request from outside that has not been answered to its end."""

    def __init__(self, log: AccessLog, protocol: str, context: RequestContext) -> None:
        self.context = context
        self._log = log
        self._protocol = protocol
        self._leave = enter_request(context)

    def end(self, route: str, status: str) -> None:
        """The answer is out. `route` is one of few names, never what the caller sent."""
        duration_s = self._log._clock() - self.context.began_s
        self._log._ended(self._protocol, route, status, duration_s, self.context)
        self._leave()
