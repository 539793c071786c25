"""What the counts of several replicas mean. Starts no Ray."""

import numpy as np
import pytest

from benchmarks.ray_fleet import Counts
from benchmarks.router_load import Tally, imbalance, shares_of, times_of


def test_shares_are_of_all_replicas_together() -> None:
    before = [Counts(slot_hits=10, slot_misses=5), Counts(slot_hits=0, slot_misses=100)]
    after = [
        Counts(
            "a", num_requests=30, node_hits=15, slot_hits=30, slot_misses=15, loads={1: 9, 2: 3}
        ),
        Counts("b", num_requests=10, node_hits=5, slot_hits=7, slot_misses=103, loads={2: 1, 3: 5}),
    ]
    assert shares_of(before, after) == {
        "slot_hit_rate": pytest.approx(27 / 40),
        "node_hit_rate": pytest.approx(20 / 40),
        "request_imbalance": pytest.approx(30 / 20),
        # The replicas have one tenth of a second in common.
        "load_imbalance": pytest.approx(3 / 2),
    }


def test_nothing_to_do_is_balanced() -> None:
    assert shares_of([Counts()], [Counts()])["load_imbalance"] == 1.0
    assert imbalance(np.zeros((3, 2), np.int64)) == 1.0


def test_one_of_three_that_does_all_is_three_times_the_mean() -> None:
    assert imbalance(np.array([[6, 0, 0], [0, 3, 0], [0, 0, 0]])) == pytest.approx(3.0)


def test_times_are_in_milliseconds() -> None:
    tally = Tally(ttft_s=[number / 1000 for number in range(101)])
    assert times_of(tally) == {
        "ttft_p50_ms": pytest.approx(50),
        "ttft_p95_ms": pytest.approx(95),
        "ttft_p99_ms": pytest.approx(99),
    }
