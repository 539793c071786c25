from collections import Counter

import pytest

from routing.config import RoutingConfig
from routing.fleet import Fleet
from routing.policy import Placement, RouteRequest, RoutingPolicy, split
from tests.routing.fleets import make_fleet, make_report

IDS = [f"r{n}" for n in range(10)]
IDLE = dict.fromkeys(IDS, 0)
CONFIG = RoutingConfig()


def make_policy(config: RoutingConfig = CONFIG) -> RoutingPolicy:
    return RoutingPolicy(config)


def place(
    policy: RoutingPolicy, fleet: Fleet, *requests: RouteRequest, now_s: float = 0.0
) -> list[Placement]:
    placements = policy.place(requests, fleet, now_s)
    assert placements is not None
    return placements


def base(cost: float = 1.0, prefix: int = 0) -> RouteRequest:
    return RouteRequest(0, cost, prefix)


def ask(adapter: int, cost: float = 1.0, prefix: int = 0) -> RouteRequest:
    return RouteRequest(adapter, cost, prefix)


def test_nobody_can_serve_where_there_is_nobody() -> None:
    fleet = Fleet(CONFIG)
    assert make_policy().place([base()], fleet, 0.0) is None
    assert make_policy().place([], fleet, 0.0) is None
    assert make_policy().homes(7, fleet, 0.0) == []


def test_a_window_of_nothing_goes_nowhere() -> None:
    assert make_policy().place([], make_fleet(IDLE), 0.0) == []


def test_the_only_replica_gets_everything() -> None:
    fleet = make_fleet({"a": 1000})
    window = [base(), ask(7), ask(8, 500.0), base(0.0)]
    placements = place(make_policy(), fleet, *window)
    assert [placement.replica_id for placement in placements] == ["a"] * 4
    assert [placement.why for placement in placements][1:3] == ["home", "home"]


def test_an_adapter_goes_where_it_is() -> None:
    fleet = make_fleet({**IDLE, "r3": 2}, residents={"r3": (7,)})
    assert place(make_policy(), fleet, ask(7)) == [Placement("r3", "resident")]


def test_of_those_who_have_it_the_least_loaded_serves() -> None:
    fleet = make_fleet({**IDLE, "r3": 2, "r5": 1}, residents={"r3": (7,), "r5": (7,)})
    assert place(make_policy(), fleet, ask(7)) == [Placement("r5", "resident")]


def test_what_was_sent_somewhere_is_followed() -> None:
    fleet, policy = make_fleet(IDLE), make_policy()
    first = place(policy, fleet, ask(7))
    fleet.sent(first[0].replica_id, 1.0, 7, 0.0)
    assert place(policy, fleet, ask(7)) == [Placement(first[0].replica_id, "resident")]


def test_nobody_waits_at_an_overloaded_replica_for_the_sake_of_a_row() -> None:
    fleet, policy = make_fleet({**IDLE, "r3": 100}, residents={"r3": (7,)}), make_policy()
    [placement] = place(policy, fleet, ask(7))
    assert placement.replica_id != "r3"
    assert placement.why == "home" or policy.homes(7, fleet, 0.0) == ["r3"]


def test_who_has_it_but_is_suspect_is_passed_by() -> None:
    fleet = make_fleet(IDLE, residents={"r3": (7,)})
    fleet.suspect("r3", 0.0)
    assert place(make_policy(), fleet, ask(7))[0].replica_id != "r3"
    assert place(make_policy(), fleet, ask(7), now_s=5.0) == [Placement("r3", "resident")]


def test_where_all_are_suspect_they_serve_nevertheless() -> None:
    fleet = make_fleet({"a": 5, "b": 0})
    for replica_id in ("a", "b"):
        fleet.suspect(replica_id, 0.0)
    assert place(make_policy(), fleet, base()) == [Placement("b", "least_loaded")]


def test_the_home_of_an_adapter_is_the_same_for_every_door() -> None:
    doors = [make_fleet(dict.fromkeys(ids, 0)) for ids in (IDS, IDS[::-1])]
    for adapter in range(1, 50):
        [first], [second] = (place(make_policy(), fleet, ask(adapter)) for fleet in doors)
        assert first == second
        assert [first.replica_id] == make_policy().homes(adapter, doors[1], 0.0)


@pytest.mark.parametrize("adapter", range(1, 9))
def test_requests_of_a_cold_adapter_in_one_window_go_to_one_replica(adapter: int) -> None:
    window = [ask(adapter), base(), ask(adapter), ask(99), ask(adapter), base()]
    chosen = place(make_policy(), make_fleet(IDLE), *window)
    same = {chosen[index] for index in (0, 2, 4)}
    assert len(same) == 1
    assert same.pop().why == "home"


def test_a_crowd_in_one_window_fills_the_home_to_the_bound_and_then_others() -> None:
    policy, fleet = make_policy(), make_fleet(IDLE)
    placements = place(policy, fleet, *[ask(7)] * 64)
    counts = Counter(placement.replica_id for placement in placements)
    [home] = policy.homes(7, fleet, 0.0)
    assert counts[home] == 8  # 1.25 of 6.4
    assert {placement.replica_id for placement in placements if placement.why == "home"} == {home}
    others = [counts[replica_id] for replica_id in IDS if replica_id != home]
    assert max(others) - min(others) <= 1


def test_few_requests_are_no_overload() -> None:
    # The mean of an idle fleet is nearly nothing: four requests may meet all the same.
    placements = place(make_policy(), make_fleet(IDLE, residents={"r3": (7,)}), *[ask(7)] * 5)
    assert [placement.why for placement in placements][:4] == ["resident"] * 4
    assert {placement.replica_id for placement in placements[:4]} == {"r3"}
    assert placements[4].why != "resident"


def test_the_base_model_fills_the_gaps() -> None:
    fleet = make_fleet({"a": 10, "b": 0, "c": 4}, residents={"b": (7,)})
    # The window asks for the base model first, and yet the adapter has gone to b by then.
    placements = place(make_policy(), fleet, base(), base(), ask(7, 5.0))
    assert [placement.replica_id for placement in placements] == ["c", "b", "b"]
    assert [placement.why for placement in placements] == [
        "least_loaded",
        "least_loaded",
        "resident",
    ]


def test_prompts_that_begin_alike_meet_where_there_is_room() -> None:
    policy, fleet = make_policy(), make_fleet(IDLE)
    [first] = place(policy, fleet, base(prefix=5))
    assert first.why == "least_loaded"
    fleet.sent(first.replica_id, 1.0, 0, 0.0)
    assert place(policy, fleet, base(prefix=5)) == [Placement(first.replica_id, "prefix")]
    assert place(policy, fleet, base(prefix=6))[0].replica_id != first.replica_id
    fleet.sent(first.replica_id, 100.0, 0, 0.0)
    [second] = place(policy, fleet, base(prefix=5))
    assert second.replica_id != first.replica_id
    # And from now on there.
    assert place(policy, fleet, base(prefix=5)) == [Placement(second.replica_id, "prefix")]


def test_a_prefix_chooses_among_those_who_have_the_adapter() -> None:
    policy = make_policy()
    fleet = make_fleet({**IDLE, "r3": 1}, residents={"r3": (7,), "r5": (7,)})
    fleet.sent("r5", 2.0, 7, 0.0)
    assert place(policy, fleet, ask(7, prefix=5))[0].replica_id == "r3"
    fleet.sent("r3", 2.0, 7, 0.0)
    assert place(policy, fleet, ask(7, prefix=5))[0].replica_id == "r3"
    # Another adapter computes other states from the same tokens.
    assert place(policy, fleet, base(prefix=5))[0].why == "least_loaded"


def test_a_prefix_whose_replica_is_gone_begins_anew() -> None:
    policy, fleet = make_policy(), make_fleet({"a": 0, "b": 1})
    assert place(policy, fleet, base(prefix=5))[0].replica_id == "a"
    fleet.remove("a")
    assert place(policy, fleet, base(prefix=5)) == [Placement("b", "least_loaded")]


@pytest.mark.parametrize(("max_prefixes", "why"), [(0, "least_loaded"), (2, "prefix")])
def test_only_so_many_prefixes_are_remembered(max_prefixes: int, why: str) -> None:
    policy, fleet = make_policy(RoutingConfig(max_prefixes=max_prefixes)), make_fleet(IDLE)
    for prefix in (1, 2, 3):
        place(policy, fleet, base(prefix=prefix))
    assert [place(policy, fleet, base(prefix=prefix))[0].why for prefix in (2, 3, 1)] == [
        why,
        why,
        "least_loaded",
    ]


def test_the_prefixes_that_came_last_are_remembered() -> None:
    policy, fleet = make_policy(RoutingConfig(max_prefixes=2)), make_fleet(IDLE)
    for prefix in (1, 2, 1, 3):
        place(policy, fleet, base(prefix=prefix))
    whys = [place(policy, fleet, base(prefix=prefix))[0].why for prefix in (1, 3, 2)]
    assert whys == ["prefix", "prefix", "least_loaded"]


def test_requests_that_cost_nothing_are_placed_like_others() -> None:
    fleet = make_fleet({**IDLE, "r3": 5}, residents={"r3": (7,), "r4": (8,)})
    placements = place(make_policy(), fleet, ask(7, 0.0), ask(8, 0.0), base(0.0))
    assert placements[0].replica_id != "r3"
    assert placements[1] == Placement("r4", "resident")
    assert placements[2].why == "least_loaded"


def test_the_same_history_gives_the_same_choices() -> None:
    def history() -> list[Placement]:
        policy, fleet = make_policy(), make_fleet(IDLE, residents={"r1": (1, 2), "r2": (2,)})
        found = []
        for second in range(20):
            window = [ask(n * second % 5, 1.0 + n, n % 3) for n in range(12)]
            placements = place(policy, fleet, *window, now_s=float(second))
            for request, placement in zip(window, placements, strict=True):
                fleet.sent(placement.replica_id, request.cost_tokens, request.adapter, second)
            found += placements
        return found

    assert history() == history()


def drive(
    policy: RoutingPolicy, fleet: Fleet, adapter: int, from_s: int, to_s: int, load: int
) -> None:
    """Eight windows a second with one request; the adapter's homes report `load` tokens, the
    others one, and nobody keeps the row.
    """
    for tick in range(8 * from_s, 8 * to_s):
        now_s = tick / 8
        homes = policy.homes(adapter, fleet, now_s)
        reports = {r: make_report(tick, load if r in homes else 1) for r in IDS}
        fleet.update(reports, now_s)
        place(policy, fleet, ask(adapter), now_s=now_s)


def test_an_adapter_that_is_too_much_for_its_homes_gets_more_and_gives_them_back() -> None:
    policy, fleet = make_policy(), make_fleet(IDLE)
    [home] = policy.homes(7, fleet, 0.0)
    drive(policy, fleet, 7, 0, 1, load=1000)
    assert policy.homes(7, fleet, 1.0)[0] == home
    assert len(policy.homes(7, fleet, 1.0)) == 2
    drive(policy, fleet, 7, 1, 2, load=1000)
    num_homes = len(policy.homes(7, fleet, 2.0))
    assert 4 <= num_homes <= 8
    assert len(policy.homes(8, fleet, 2.0)) == 1
    drive(policy, fleet, 7, 2, 40, load=1)
    assert len(policy.homes(7, fleet, 40.0)) == num_homes - 1
    drive(policy, fleet, 7, 40, 300, load=1)
    assert policy.homes(7, fleet, 300.0) == [home]


def test_new_homes_are_for_the_next_window() -> None:
    policy, fleet = make_policy(RoutingConfig(grow_after_s=0.0)), make_fleet(IDLE)
    [home] = policy.homes(7, fleet, 0.0)
    placements = place(policy, fleet, *[ask(7)] * 20)
    assert {p.replica_id for p in placements if p.why == "home"} == {home}
    placements = place(policy, fleet, *[ask(7)] * 20)
    assert len({p.replica_id for p in placements if p.why == "home"}) > 1


def test_a_hot_adapter_is_served_by_as_many_as_it_needs() -> None:
    """Ten replicas finish 8 requests a second each, 70 of one adapter arrive beside few others."""
    policy, fleet = make_policy(), make_fleet(IDLE)
    queues: dict[str, list[RouteRequest]] = {replica_id: [] for replica_id in IDS}
    served: list[set[str]] = []
    for tick in range(8 * 60):
        hot = [ask(7)] * (9 if tick < 8 * 20 else tick % 8 == 0)
        window = [*hot, ask(100 + tick)]
        placements = place(policy, fleet, *window, now_s=tick / 8)
        for request, placement in zip(window, placements, strict=True):
            fleet.sent(placement.replica_id, 1.0, request.adapter, tick / 8)
            queues[placement.replica_id].append(request)
        served.append({p.replica_id for r, p in zip(window, placements, strict=True) if r in hot})
        for replica_id, queue in queues.items():
            assert len(queue) <= 8, "a second's work, however hot"
            if queue:
                fleet.done(replica_id, queue.pop(0).cost_tokens)
        # What was sent of late is believed; a report forgets the rest.
        fleet.update({r: make_report(tick, len(queue)) for r, queue in queues.items()}, tick / 8)
    assert len(set().union(*served[80:160])) >= 8
    assert len(set().union(*served[-80:])) == 1


def test_split_groups_places_by_replica() -> None:
    chosen = [Placement("b", "home"), Placement("a", "prefix"), Placement("b", "resident")]
    assert split(chosen) == {"b": [0, 2], "a": [1]}
    assert split([]) == {}
