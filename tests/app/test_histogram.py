"""The fast histogram shows what the library's shows."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram

from app.histogram import FastHistogram

BOUNDS = (0.001, 0.01, 0.5, 1.0, 10.0)
VALUES = st.one_of(st.sampled_from(BOUNDS), st.floats(0, 100, allow_nan=False))


@given(st.lists(VALUES, max_size=40))
def test_it_counts_as_the_library_does(values: list[float]) -> None:
    registry = CollectorRegistry()
    slow = Histogram("h", "H.", buckets=BOUNDS, registry=registry)
    fast = FastHistogram(BOUNDS)
    for value in values:
        slow.observe(value)
        fast.observe(value)
    (family,) = slow.collect()
    shown = {(s.name, s.labels.get("le")): s.value for s in fast.family("h", "H.").samples}
    expected = {(s.name, s.labels.get("le")): s.value for s in family.samples}
    expected.pop(("h_created", None))
    assert shown == expected
