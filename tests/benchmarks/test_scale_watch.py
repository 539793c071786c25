"""What is read from the metrics of replicas that come and go."""

import numpy as np
import pytest

from benchmarks.scale_watch import History, Poll, hit_rate, moved_share, read_poll

PAGE = """\
# TYPE flora_slots_hits_total counter
flora_slots_hits_total{replica="a"} 7.0
flora_slots_hits_total{replica="b"} 1.0
# TYPE flora_slots_misses_total counter
flora_slots_misses_total{replica="a"} 2.0
flora_slots_misses_total{replica="b"} 0.0
# TYPE flora_lost_requests_total counter
flora_lost_requests_total{door="d",error="engine_failed"} 3.0
flora_lost_requests_total{door="d",error="not_ready"} 1.0
"""


def history(*polls: Poll) -> History:
    made = History()
    for poll in polls:
        made.add(poll)
    return made


def test_a_page_is_read() -> None:
    assert read_poll(1.5, PAGE) == Poll(1.5, {"a": (7.0, 2.0), "b": (1.0, 0.0)}, 4.0)
    assert read_poll(0.0, "") == Poll(0.0, {})


def test_a_hit_rate_is_of_what_came_between() -> None:
    before, after = Poll(0, {"a": (100.0, 100.0)}), Poll(1, {"a": (109.0, 101.0), "b": (0.0, 10.0)})
    assert hit_rate(before, after, ["a"]) == pytest.approx(0.9)
    assert hit_rate(before, after, ["a", "b"]) == pytest.approx(0.45)
    assert hit_rate(before, after, ["gone"]) is None


def test_few_requests_say_nothing() -> None:
    assert hit_rate(Poll(0, {"a": (0.0, 0.0)}), Poll(1, {"a": (4.0, 0.0)}), ["a"]) is None


def test_a_new_replica_has_caught_up_when_it_hits_like_the_older_ones() -> None:
    seen = history(
        Poll(0, {"a": (0.0, 0.0)}),
        Poll(10, {"a": (90.0, 10.0), "b": (0.0, 0.0)}),
        Poll(11, {"a": (180.0, 20.0), "b": (5.0, 5.0)}),
        Poll(12, {"a": (270.0, 30.0), "b": (10.0, 10.0)}),
        Poll(13, {"a": (360.0, 40.0), "b": (30.0, 11.0)}),
        Poll(14, {"a": (450.0, 50.0), "b": (100.0, 11.0)}),
    )
    assert seen.ready_at_s == {"a": 0, "b": 10}
    # At 13 it has 25 hits and 6 misses of the last two seconds, at 14 90 and 1.
    assert seen.caught_up_s("b") == 4
    assert history(*seen.polls[:5]).caught_up_s("b") is None


def test_a_replica_without_requests_has_not_caught_up() -> None:
    seen = history(
        Poll(0, {"a": (0.0, 0.0)}),
        Poll(1, {"a": (50.0, 0.0), "b": (0.0, 0.0)}),
        Poll(2, {"a": (90.0, 0.0), "b": (0.0, 0.0)}),
    )
    assert seen.caught_up_s("b") is None


@pytest.mark.parametrize("num_replicas", [1, 2, 3, 7])
def test_the_next_replica_takes_its_fair_share_of_homes(num_replicas: int) -> None:
    adapters = np.random.default_rng(3).integers(1 << 62, size=20_000).tolist()
    old = [f"replica-{number}" for number in range(num_replicas)]
    share = moved_share(adapters, old, [*old, "newcomer"])
    assert share == pytest.approx(1 / (num_replicas + 1), abs=0.02)
    assert moved_share(adapters, old, list(reversed(old))) == 0.0
