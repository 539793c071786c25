"""Spans through the OpenTelemetry SDK to a collector, by OTLP over gRPC."""

import re
from threading import Thread

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)

from app.telemetry_config import TracingSettings
from contracts.tracing import NO_SPAN, NO_TRACER, Span, Tracer

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MAX_QUEUED_SPANS = 4096
_EXPORT_TIMEOUT_S = 5
_CLOSE_TIMEOUT_S = 3.0
_MAX_ATTRIBUTES = 32
_MAX_ATTRIBUTE_LENGTH = 200


def make_tracer(settings: TracingSettings, service: str) -> Tracer:
    """The tracer of one process; it records nothing where no endpoint is set."""
    if not settings.otlp_endpoint:
        return NO_TRACER
    exporter = OTLPSpanExporter(settings.otlp_endpoint, timeout=_EXPORT_TIMEOUT_S)
    return OtelTracer(exporter, service, settings.sample_ratio)


class OtelTracer:
    """Spans of one process to `exporter`, sent by a thread of their own.

    A request that comes with a trace is recorded where its sender records it, one without in
    `sample_ratio` of all cases. What the collector does not take in time is dropped.
    """

    def __init__(self, exporter: SpanExporter, service: str, sample_ratio: float = 1.0) -> None:
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)),
            resource=Resource.create({SERVICE_NAME: service}),
            span_limits=SpanLimits(
                max_span_attributes=_MAX_ATTRIBUTES,
                max_span_attribute_length=_MAX_ATTRIBUTE_LENGTH,
            ),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(exporter, max_queue_size=_MAX_QUEUED_SPANS)
        )
        self._tracer = self._provider.get_tracer("flora")

    def root(self, name: str, traceparent: str) -> Span:
        """See Tracer."""
        return self._start(name, traceparent, SpanKind.SERVER)

    def child(self, name: str, traceparent: str) -> Span:
        """See Tracer."""
        return self._start(name, traceparent, SpanKind.INTERNAL) if traceparent else NO_SPAN

    def close(self) -> None:
        """See Tracer."""
        # With a collector that is away the library would try for half a minute.
        ending = Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(_CLOSE_TIMEOUT_S)

    def _start(self, name: str, traceparent: str, kind: SpanKind) -> Span:
        parent = _parent(traceparent)
        context = trace.set_span_in_context(NonRecordingSpan(parent)) if parent else None
        span = self._tracer.start_span(name, context=context, kind=kind)
        return _OtelSpan(span) if span.is_recording() else NO_SPAN


class _OtelSpan:
    __slots__ = ("_span", "traceparent")

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self.traceparent = _traceparent(span.get_span_context())

    def note(self, **facts: str | int | float) -> None:
        for name, value in facts.items():
            self._span.set_attribute(f"flora.{name}", value)

    def end(self, error: str = "") -> None:
        if not self._span.is_recording():
            return
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end()


def _parent(traceparent: str) -> SpanContext | None:
    """The sender's span; None for none, and for what is not a traceparent."""
    found = _TRACEPARENT.fullmatch(traceparent)
    # Version 00 has four parts and no more; later ones may add some.
    if found is None or (traceparent.startswith("00") and found[4]):
        return None
    flags = TraceFlags(int(found[3], 16) & TraceFlags.SAMPLED)
    parent = SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=flags)
    return parent if parent.is_valid else None


def _traceparent(context: SpanContext) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
