"""One page out of many: valid, complete, each replica's numbers its own."""

from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from app.replica_metrics import merged


def page(counts: Mapping[str, int]) -> bytes:
    """A counter by tier, a gauge, and a histogram, as a process would show them."""
    registry = CollectorRegistry()
    fetches = Counter("fetches", 'Fetches, "by" tier\\', ["tier"], registry=registry)
    for tier, count in counts.items():
        fetches.labels(tier).inc(count)
    Gauge("used", "Used.", registry=registry).set(len(counts))
    seconds = Histogram("seconds", "Seconds.", buckets=(1, 5), registry=registry)
    for count in counts.values():
        seconds.observe(count)
    return generate_latest(registry)


def samples(text: bytes) -> list[Sample]:
    return [s for family in text_string_to_metric_families(text.decode()) for s in family.samples]


COUNTS = st.dictionaries(st.text(max_size=4), st.integers(0, 1000), max_size=3)
REPLICAS = st.dictionaries(st.text(max_size=4), COUNTS, max_size=3)


@given(COUNTS, REPLICAS)
def test_nothing_is_lost_and_no_family_comes_twice(
    own: dict[str, int], replicas: dict[str, dict[str, int]]
) -> None:
    own_text = page(own)
    texts = {replica_id: page(counts) for replica_id, counts in replicas.items()}
    result = merged(own_text, texts)
    types = [line for line in result.decode().splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    found = samples(result)
    expected = samples(own_text) + [
        s._replace(labels={**s.labels, "replica": replica_id})
        for replica_id, text in texts.items()
        for s in samples(text)
    ]

    def order(sample: Sample) -> tuple[object, ...]:
        return sample.name, sorted(sample.labels.items()), sample.value

    assert sorted(found, key=order) == sorted(expected, key=order)


def test_no_replica_changes_nothing() -> None:
    own = page({"redis": 3})
    assert merged(own, {}) == own


def test_a_doors_own_counts_have_its_name() -> None:
    own = page({"redis": 3})
    for texts in ({}, {"r": page({"redis": 4})}):
        found = [s for s in samples(merged(own, texts, "d1")) if "replica" not in s.labels]
        assert found
        assert {s.labels.pop("door") for s in found} == {"d1"}
        assert found == samples(own)


def test_a_text_that_cannot_be_read_costs_only_itself() -> None:
    own = b"# TYPE a gauge\na 1\n"
    texts = {
        "bad": b"# TYPE b gauge\nb 1\nb{ x\n",
        "worse": b"\xff",
        "good": b"# TYPE b gauge\nb 2\n",
    }
    assert [(s.name, s.labels, s.value) for s in samples(merged(own, texts))] == [
        ("a", {}, 1),
        ("b", {"replica": "good"}, 2),
    ]


def test_a_family_of_two_types_keeps_the_first() -> None:
    texts = {"r": b"# TYPE a counter\na_total 5\n", "s": b"# TYPE a gauge\na 5\n"}
    assert [s.labels for s in samples(merged(b"# TYPE a counter\na_total 1\n", texts))] == [
        {},
        {"replica": "r"},
    ]
