"""An OpenTelemetry collector in this process: a real OTLP server that keeps the spans."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc


@dataclass(frozen=True)
class Seen:
    """One span as it arrived; ids in hex."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str
    start_ns: int
    end_ns: int
    is_error: bool
    facts: dict[str, Any]


@dataclass
class Collector:
    """What has arrived at `url`."""

    url: str = ""
    spans: list[Seen] = field(default_factory=list)
    raw: bytes = b""
    arrived: Event = field(default_factory=Event)
    _lock: Lock = field(default_factory=Lock)

    def take(self, request: Any) -> None:
        with self._lock:
            self.raw += request.SerializeToString()
            for resource in request.resource_spans:
                (service,) = (
                    a.value.string_value
                    for a in resource.resource.attributes
                    if a.key == "service.name"
                )
                for scope in resource.scope_spans:
                    self.spans += [_seen(service, span) for span in scope.spans]
        self.arrived.set()

    def named(self, name: str) -> list[Seen]:
        with self._lock:
            return [span for span in self.spans if span.name == name]


def _seen(service: str, span: Any) -> Seen:
    facts = {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}
    return Seen(
        service,
        span.name,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == 2,
        facts,
    )


class _Service(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def Export(self, request: Any, context: Any) -> Any:  # gRPC's name
        self._collector.take(request)
        return trace_service_pb2.ExportTraceServiceResponse()


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a port of its own."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Service(collector), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    collector.url = f"http://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        server.stop(1).wait()
