"""Who stops when, whose numbers are the best, and that a checkpoint knows it."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from flora.early_stop import EarlyStop

LOSSES = st.lists(st.one_of(st.floats(0, 9), st.just(math.nan)), min_size=1, max_size=15)


def test_each_adapter_stops_by_itself() -> None:
    stops = EarlyStop(2, patience=2)
    assert stops.record({0: 3.0, 1: 3.0}) == [0, 1]
    assert stops.record({0: 2.0, 1: 3.0}) == [0]
    assert stops.record({0: 2.5, 1: 3.5}) == []
    assert [stops.is_stopped(k) for k in (0, 1)] == [False, True]
    assert stops.best == [2.0, 3.0]
    assert repr(stops) == "EarlyStop(1 of 2 stopped)"


@given(LOSSES, st.integers(0, 4))
def test_it_stops_after_so_many_that_are_no_better_and_never_without_patience(
    losses: list[float], patience: int
) -> None:
    stops, seen, num_worse = EarlyStop(1, patience), math.inf, 0
    for loss in losses:
        is_better = bool(stops.record({0: loss}))
        assert is_better == (loss < seen)
        seen, num_worse = (loss, 0) if is_better else (seen, num_worse + 1)
        assert stops.is_stopped(0) == (patience > 0 and num_worse >= patience)
    again = EarlyStop(1, patience)
    again.load_json(json.loads(json.dumps(stops.to_json(), allow_nan=False)))
    assert again.to_json() == stops.to_json()
    assert again.is_stopped(0) == stops.is_stopped(0)
