"""Doors that know each other from old reports do not all choose the same."""

from collections import Counter
from random import Random

from routing.config import RoutingConfig
from routing.policy import RouteRequest, RoutingPolicy, two_of
from tests.routing.fleets import make_fleet


def test_a_door_among_others_takes_the_less_loaded_of_two() -> None:
    draw = two_of(Random(3))
    loads = {f"r{i}": i for i in range(10)}
    fleet = make_fleet(loads)
    policy = RoutingPolicy(RoutingConfig(), draw)
    chosen = Counter[str]()
    for _ in range(300):
        placements = policy.place([RouteRequest(0, 0.0)], fleet, 0.0)
        assert placements is not None
        chosen[placements[0].replica_id] += 1
    # The n-th best of ten is the better of two in (10 - n) of 45 draws; the last never is.
    assert chosen["r0"] == max(chosen.values())
    assert 30 < chosen["r0"] < 100
    assert chosen["r9"] == 0


def test_two_are_all_where_there_are_no_more() -> None:
    draw = two_of(Random(3))
    assert draw([4, 5]) == [4, 5]
    assert draw([]) == []
    assert len(set(draw(range(9)))) == 2
