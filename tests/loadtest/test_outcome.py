from collections.abc import Iterator

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.outcome import Outcome, Stopwatch
from tests.loadtest.loads import make_ask, make_outcome


def watch_over(*times_s: float) -> Stopwatch:
    """A stopwatch of a request that was due at 100.5, half a second after the start."""
    moments: Iterator[float] = iter(times_s)
    return Stopwatch(lambda: next(moments), began_s=100.0, at_s=0.5)


def test_everything_counts_from_when_it_was_due() -> None:
    watch = watch_over(102.5, 103.5, 104.0, 104.25, 105.5)
    watch.sent()
    for _ in range(3):
        watch.token_event()
    watch.usage(7)
    found = watch.stop(make_ask(group="quiet", adapter=3))
    assert (found.lag_s, found.ttft_s, found.total_s) == (2.0, 3.0, 5.0)
    assert found.gaps_s == (0.5, 0.25)
    assert (found.group, found.adapter, found.num_tokens, found.is_ok) == ("quiet", 3, 7, True)
    assert found.ended_s == 5.5
    assert found.tokens_per_s == 3.0


def test_without_a_usage_events_are_tokens() -> None:
    watch = watch_over(101.0, 102.0, 103.0, 104.0)
    watch.sent()
    watch.token_event()
    watch.token_event()
    assert watch.stop(make_ask()).num_tokens == 2


def test_a_request_without_tokens_has_no_first_one() -> None:
    found = watch_over(101.0).stop(make_ask(), "timeout")
    assert (found.ttft_s, found.tokens_per_s, found.code) == (None, None, "timeout")


@settings(max_examples=30)
@given(st.lists(st.floats(0, 10), max_size=5), st.none() | st.floats(0, 100), st.text())
def test_outcomes_survive_the_way_to_the_master(
    gaps_s: list[float], ttft_s: float | None, code: str
) -> None:
    outcome = make_outcome(gaps_s=tuple(gaps_s), ttft_s=ttft_s, code=code)
    sent = msgpack.unpackb(msgpack.packb(outcome.to_json()))
    assert Outcome.from_json(sent) == outcome


@pytest.mark.parametrize("num_tokens", [0, 1])
def test_one_token_has_no_speed(num_tokens: int) -> None:
    assert make_outcome(num_tokens=num_tokens).tokens_per_s is None
