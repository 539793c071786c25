"""The spans of requests in a replica: parts that follow each other, each ended once."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from contracts.adapters import BASE
from contracts.errors import AdapterCorrupt
from contracts.generation import GenerateRequest, Sampling, TokenDelta
from contracts.tracing import NO_SPAN, Span
from replicas.request_trace import GroupTrace, RequestTrace


class FakeSpan:
    def __init__(self, name: str, parent: str) -> None:
        self.name, self.parent = name, parent
        self.traceparent = f"{parent}/{name}"
        self.facts: dict[str, object] = {}
        self.ends: list[str] = []

    def note(self, **facts: str | int | float) -> None:
        assert not self.ends
        self.facts |= facts

    def end(self, error: str = "") -> None:
        self.ends.append(error)


class FakeTracer:
    """Keeps its spans in their order."""

    def __init__(self) -> None:
        self.spans: list[FakeSpan] = []

    def root(self, name: str, traceparent: str) -> Span:
        raise AssertionError("a replica has no requests from outside")

    def child(self, name: str, traceparent: str) -> Span:
        if not traceparent:
            return NO_SPAN
        span = FakeSpan(name, traceparent)
        self.spans.append(span)
        return span

    def close(self) -> None:
        pass


def make_request(traceparent: str = "up", n: int = 1) -> GenerateRequest:
    return GenerateRequest("r", BASE, (1, 2, 3), Sampling(4, n=n), traceparent=traceparent)


def ended(tracer: FakeTracer) -> list[tuple[str, str]]:
    assert all(len(span.ends) == 1 for span in tracer.spans)
    return [(span.name, span.ends[0]) for span in tracer.spans]


def test_the_parts_of_a_request_follow_each_other() -> None:
    tracer = FakeTracer()
    trace = RequestTrace(tracer, make_request())
    trace.queued()
    trace.admitted()
    trace.fetched()
    trace.submitted()
    trace.take(TokenDelta(0, token_ids=(5,)))
    trace.take(TokenDelta(0, token_ids=(6, 7), finish_reason="stop"))
    assert ended(tracer) == [
        ("replica", ""),
        ("replica.fetch", ""),
        ("replica.queue", ""),
        ("replica.fetch", ""),
        ("replica.submit", ""),
        ("engine.prefill", ""),
        ("engine.decode", ""),
    ]
    assert [span.parent for span in tracer.spans] == ["up"] + ["up/replica"] * 6
    assert tracer.spans[0].facts == {"prompt_tokens": 3, "generated_tokens": 3}


def test_an_error_ends_the_part_that_it_comes_in() -> None:
    tracer = FakeTracer()
    trace = RequestTrace(tracer, make_request())
    trace.take(TokenDelta(0, error=AdapterCorrupt("x")))
    assert ended(tracer) == [("replica", "adapter_corrupt"), ("replica.fetch", "adapter_corrupt")]


def test_all_choices_must_end() -> None:
    tracer = FakeTracer()
    trace = RequestTrace(tracer, make_request(n=2))
    trace.submitted()
    trace.take(TokenDelta(0, 0, (1,), finish_reason="stop"))
    assert not tracer.spans[0].ends
    trace.take(TokenDelta(0, 1, (1,), finish_reason="stop"))
    assert tracer.spans[0].ends == [""]


STEPS = st.lists(
    st.sampled_from(
        ["queued", "admitted", "fetched", "submitted", "token", "stop", "error", "end"]
    ),
    max_size=12,
)


@given(STEPS)
def test_whatever_happens_each_span_ends_once(steps: Sequence[str]) -> None:
    tracer = FakeTracer()
    trace = RequestTrace(tracer, make_request())
    for step in steps:
        if step == "token":
            trace.take(TokenDelta(0, token_ids=(1,)))
        elif step == "stop":
            trace.take(TokenDelta(0, finish_reason="stop"))
        elif step == "error":
            trace.take(TokenDelta(0, error=AdapterCorrupt("x")))
        else:
            getattr(trace, step)()
    trace.end()
    assert ended(tracer)


def test_a_group_traces_those_that_are_recorded_and_ends_them_all() -> None:
    tracer = FakeTracer()
    group = GroupTrace(tracer, [make_request(""), make_request(), make_request("")])
    for index in range(3):
        group[index].fetched()
        group[index].submitted()
    group.take([TokenDelta(0, token_ids=(1,)), TokenDelta(1, token_ids=(1,))])
    group.close()
    group.close()
    assert {span.parent for span in tracer.spans} == {"up", "up/replica"}
    assert ended(tracer)[0] == ("replica", "abort")


def test_a_group_that_nobody_records_starts_no_span() -> None:
    tracer = FakeTracer()
    group = GroupTrace(tracer, [make_request("")])
    group[0].fetched()
    group.take([TokenDelta(0, token_ids=(1,))])
    group.close()
    assert tracer.spans == []
