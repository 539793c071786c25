"""Spans through a real OTLP server: parents, sampling, bounds, and an absent collector."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.otel_tracing import _parent, make_tracer
from app.telemetry_config import TracingSettings
from contracts.tracing import NO_SPAN, NO_TRACER
from tests.app.collector import Collector, collecting

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENT = f"00-{TRACE}-b7ad6b7169203331-01"
NOT_SAMPLED = SENT[:-1] + "0"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


def test_children_hang_below_their_parents_across_tracers(collector: Collector) -> None:
    door = make_tracer(TracingSettings(collector.url), "flora-door")
    replica = make_tracer(TracingSettings(collector.url), "flora-replica")
    root = door.root("door", SENT)
    child = replica.child("replica", root.traceparent)
    child.note(prompt_tokens=7, name="x" * 1000)
    child.end("overloaded")
    child.end()
    root.end()
    door.close()
    replica.close()
    (above,), (below,) = collector.named("door"), collector.named("replica")
    assert (above.trace_id, above.parent_id) == (TRACE, "b7ad6b7169203331")
    assert (below.trace_id, below.parent_id) == (TRACE, above.span_id)
    assert (above.service, below.service) == ("flora-door", "flora-replica")
    assert (above.is_error, below.is_error) == (False, True)
    assert below.facts["flora.prompt_tokens"] == 7
    assert len(below.facts["flora.name"]) == 200
    assert above.start_ns <= below.start_ns <= below.end_ns <= above.end_ns


def test_without_a_sender_the_share_decides(collector: Collector) -> None:
    everything = make_tracer(TracingSettings(collector.url, sample_ratio=1.0), "s")
    nothing = make_tracer(TracingSettings(collector.url, sample_ratio=0.0), "s")
    root = everything.root("door", "")
    assert root.traceparent
    root.end()
    assert nothing.root("door", "") is NO_SPAN
    # What the sender decided holds.
    assert everything.root("door", NOT_SAMPLED) is NO_SPAN
    followed = nothing.root("door", SENT)
    assert followed.traceparent.startswith(f"00-{TRACE}-")
    followed.end()
    everything.close()
    nothing.close()
    assert len(collector.spans) == 2


def test_nothing_is_recorded_below_nothing_or_without_an_endpoint(collector: Collector) -> None:
    tracer = make_tracer(TracingSettings(collector.url), "s")
    assert tracer.child("x", "") is NO_SPAN
    tracer.close()
    assert make_tracer(TracingSettings(), "s") is NO_TRACER
    assert NO_TRACER.root("door", SENT).traceparent == ""


def test_an_absent_collector_stops_nobody() -> None:
    with collecting() as collector:
        url = collector.url
    tracer = make_tracer(TracingSettings(url), "s")
    began_s = time.monotonic()
    for _ in range(10_000):
        tracer.root("door", "").end()
    assert time.monotonic() - began_s < 5
    tracer.close()
    assert time.monotonic() - began_s < 9


@given(st.text(max_size=80) | st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"))
def test_whatever_is_sent_as_traceparent_is_a_parent_or_none(sent: str) -> None:
    parent = _parent(sent)
    if parent is not None:
        assert parent.is_valid
        assert f"{parent.trace_id:032x}" in sent
        assert f"{parent.span_id:016x}" in sent


@pytest.mark.parametrize(
    "sent",
    [
        "",
        "x",
        f"ff-{TRACE}-b7ad6b7169203331-01",
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{SENT}-extra",
        SENT.upper(),
    ],
)
def test_what_the_standard_forbids_is_no_parent(sent: str) -> None:
    assert _parent(sent) is None
    assert _parent(SENT) is not None
    assert _parent(f"01-{SENT[3:]}-more") is not None
