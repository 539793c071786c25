"""Spans of a window's requests: below the door's, one call each, and nothing for the others."""

from collections.abc import Iterator

import pytest

from adapter_cache.store import MemoryStore
from app.ask import Ask
from app.dispatcher import LocalDispatcher
from app.otel_tracing import make_tracer
from app.request_spans import RequestSpans
from app.telemetry_config import TracingSettings
from app.window import Window
from contracts.adapters import BASE, DEFAULT_TENANT, AdapterRef
from contracts.generation import Sampling
from contracts.tracing import Tracer
from tests.app.collector import Collector, collecting
from tests.app.parts import CountingReplica, publish

SENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


async def serve(tracer: Tracer, *asks: Ask) -> tuple[CountingReplica, RequestSpans]:
    store, replica, spans = MemoryStore(), CountingReplica(), RequestSpans(tracer)
    await publish(store, "a")
    window = Window(
        store, LocalDispatcher(replica), store_timeout_s=0.2, observers=(spans,), spans=spans
    )
    for stream in window.open(asks):
        assert [burst async for burst in stream]
    await window.aclose()
    return replica, spans


def make_ask(request_id: str, traceparent: str) -> Ask:
    ref = AdapterRef(DEFAULT_TENANT, "a")
    return Ask(request_id, "tiny:a", ref, (1, 2), Sampling(3), traceparent=traceparent)


async def test_a_recorded_request_leaves_below_the_span_of_its_call(collector: Collector) -> None:
    tracer = make_tracer(TracingSettings(collector.url), "door")
    replica, spans = await serve(tracer, make_ask("r1", SENT), make_ask("r2", ""))
    tracer.close()
    (group,) = replica.groups
    (call,), (resolve,) = collector.named("window.call"), collector.named("window.resolve")
    assert len(collector.spans) == 2
    assert call.parent_id == resolve.parent_id == "b7ad6b7169203331"
    assert [r.traceparent for r in group] == [f"00-{call.trace_id}-{call.span_id}-01", ""]
    assert call.facts["flora.group_size"] == 2
    assert call.facts["flora.generated_tokens"] == 3
    assert call.facts["flora.outcome"] == "length"
    assert call.facts["flora.ttft_s"] > 0
    assert not spans._calls
    assert resolve.end_ns <= call.end_ns


def test_requests_that_nobody_records_go_as_they_are() -> None:
    requests = (make_ask("r1", "").request(BASE), make_ask("r2", "").request(BASE))
    assert RequestSpans().calling(requests) is requests
