import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from contracts.replica import ReplicaReport
from routing.config import RoutingConfig
from routing.fleet import Fleet
from routing.rendezvous import word_of
from tests.routing.fleets import holders_of, loads_of, make_fleet, make_report

CONFIG = RoutingConfig(report_max_age_s=10.0, learned_s=10.0, suspect_s=5.0)


def test_a_fleet_of_nobody() -> None:
    fleet = Fleet(CONFIG)
    assert (len(fleet), list(fleet.replica_ids), repr(fleet)) == (0, [], "<Fleet 0 replicas>")
    assert not fleet.loads(0.0).size
    for _ in range(2):
        fleet.remove("r")
        fleet.suspect("r", 0.0)
        fleet.sent("r", 10, 7, 0.0)
        fleet.done("r", 10)
    assert not fleet.residency.holders(7)
    assert fleet.slot_of("r") is None


def test_members_are_those_of_the_last_update() -> None:
    fleet = make_fleet({"a": 1, "b": 2})
    fleet.update({"b": None, "c": make_report(load=3)}, 0.0)
    assert set(fleet.replica_ids) == {"b", "c"}
    assert ("a" in fleet, "b" in fleet) == (False, True)
    assert loads_of(fleet) == {"b": 2, "c": 3}
    loads, live = fleet.loads(0.0), {fleet.slot_of("b"), fleet.slot_of("c")}
    assert {slot for slot in range(len(loads)) if math.isfinite(loads[slot])} == live


def test_many_members_keep_their_slots_and_words() -> None:
    ids = [f"replica-{n}" for n in range(100)]
    fleet = make_fleet({replica_id: n for n, replica_id in enumerate(ids)})
    slots = {replica_id: fleet.slot_of(replica_id) for replica_id in ids}
    assert len(set(slots.values())) == 100
    fleet.update(dict.fromkeys([*ids, "new"]), 0.0)
    for n, replica_id in enumerate(ids):
        slot = fleet.slot_of(replica_id)
        assert slot is not None
        assert slot == slots[replica_id]
        assert fleet.id_of(slot) == replica_id
        assert fleet.words[slot] == word_of(replica_id)
        assert fleet.loads(0.0)[slot] == n


def test_a_member_is_seen_when_it_reports_anew_or_speaks() -> None:
    fleet = Fleet(CONFIG)
    fleet.update({"a": make_report(number=1), "b": None}, 1.0)
    fleet.update({"a": make_report(number=1), "b": None}, 2.0)
    assert fleet.reported_at_s() == {"a": 1.0, "b": -math.inf}
    fleet.told("b", 5, 3.0)
    fleet.update({"a": make_report(number=2), "b": None}, 4.0)
    assert fleet.reported_at_s() == {"a": 4.0, "b": 3.0}


def test_nothing_of_a_replica_is_left_to_the_next_in_its_slot() -> None:
    fleet = make_fleet({"old": 500, "idle": 0}, CONFIG, {"old": (7,)})
    fleet.sent("old", 100, 8, 0.0)
    fleet.suspect("old", 0.0)
    slot = fleet.slot_of("old")
    fleet.update({"idle": None, "new": make_report(1, 3, (9,))}, 0.0)
    assert fleet.slot_of("new") == slot
    assert loads_of(fleet) == {"idle": 0, "new": 3}
    assert [holders_of(fleet, adapter) for adapter in (7, 8, 9)] == [set(), set(), {"new"}]
    assert fleet.words[slot] == word_of("new")
    fleet.residency.check_integrity()


def test_the_same_report_again_says_nothing_new() -> None:
    fleet = make_fleet({"a": 100}, CONFIG, {"a": (7,)})
    fleet.sent("a", 50, 8, 0.0)
    fleet.update({"a": make_report(1, 100, (7,))}, 10.0)
    assert loads_of(fleet, 0.0) == {"a": 150}
    fleet.update({"a": make_report(2, 100, (9,))}, 10.0)
    assert loads_of(fleet, 10.0) == {"a": 100}
    assert holders_of(fleet, 7) == set()


def test_a_replica_that_counts_anew_is_heard() -> None:
    fleet = Fleet(CONFIG)
    fleet.update({"a": make_report(9, 100)}, 0.0)
    fleet.update({"a": make_report(1, 5)}, 1.0)
    assert loads_of(fleet, 1.0) == {"a": 5}


def test_load_is_what_was_sent_from_here_and_by_others() -> None:
    fleet = Fleet(CONFIG)
    fleet.update({"a": None}, 0.0)
    fleet.sent("a", 30, 0, 0.0)
    fleet.update({"a": make_report(1, 100)}, 0.0)
    assert loads_of(fleet) == {"a": 100}
    fleet.sent("a", 20, 0, 0.0)
    assert loads_of(fleet) == {"a": 120}
    fleet.done("a", 30)
    fleet.done("a", 20)
    assert loads_of(fleet) == {"a": 70}
    fleet.sent("a", 500, 0, 0.0)
    # The replica has not seen it yet: others have sent nothing then, not less than nothing.
    fleet.update({"a": make_report(2, 60)}, 0.0)
    assert loads_of(fleet) == {"a": 500}


def test_more_cannot_be_done_than_was_sent() -> None:
    fleet = make_fleet({"a": 0})
    fleet.sent("a", 10, 0, 0.0)
    fleet.done("a", 25)
    fleet.sent("a", 5, 0, 0.0)
    assert loads_of(fleet) == {"a": 5}


def test_the_base_model_is_not_an_adapter_that_somebody_holds() -> None:
    fleet = make_fleet({"a": 0})
    fleet.sent("a", 10, 0, 0.0)
    fleet.sent("a", 10, 7, 0.0)
    assert (holders_of(fleet, 0), holders_of(fleet, 7)) == (set(), {"a"})


def test_who_was_not_heard_of_lately_is_taken_for_one_like_the_others() -> None:
    fleet = make_fleet({"a": 100, "b": 300, "old": 900}, CONFIG)
    reports = {"a": make_report(2, 100), "b": make_report(2, 300), "new": None, "old": None}
    fleet.update(reports, 5.0)
    fleet.sent("new", 7, 0, 5.0)
    assert loads_of(fleet, 10.0)["old"] == 900
    assert loads_of(fleet, 10.1) == {"a": 100, "b": 300, "old": 200, "new": 207}
    assert loads_of(fleet, 15.1) == {"a": 0, "b": 0, "old": 0, "new": 7}


def test_suspects_are_left_alone_for_a_while() -> None:
    fleet = make_fleet({"a": 1, "b": 2}, CONFIG)
    fleet.suspect("a", 0.0)
    assert loads_of(fleet, 4.9) == {"a": math.inf, "b": 2}
    assert loads_of(fleet, 5.0) == {"a": 1, "b": 2}


def test_where_all_are_suspect_none_is() -> None:
    fleet = make_fleet({"a": 1, "b": 2}, CONFIG)
    fleet.suspect("a", 0.0)
    fleet.suspect("b", 1.0)
    assert loads_of(fleet, 4.0) == {"a": 1, "b": 2}
    assert loads_of(fleet, 5.0) == {"a": 1, "b": math.inf}


class AgainstModel(RuleBasedStateMachine):
    """A dictionary for each fact: own load, the last report, when it came, until when suspect."""

    ids = st.sampled_from([f"r{n}" for n in range(20)])

    def __init__(self) -> None:
        super().__init__()
        self.fleet = Fleet(CONFIG)
        self.now_s = 0.0
        self.own: dict[str, float] = {}
        self.heard: dict[str, tuple[ReplicaReport, float, float]] = {}
        self.suspects: dict[str, float] = {}

    @rule(members=st.dictionaries(ids, st.none() | st.integers(1, 3), max_size=20))
    def update(self, members: dict[str, int | None]) -> None:
        reports = {
            r: None if number is None else make_report(number, 8 * number)
            for r, number in members.items()
        }
        self.fleet.update(reports, self.now_s)
        self.own = {r: self.own.get(r, 0.0) for r in members}
        for known in (self.heard, self.suspects):
            for gone in known.keys() - members.keys():
                del known[gone]
        for r, report in reports.items():
            is_new = r not in self.heard or self.heard[r][0] != report
            if report is not None and is_new:
                others = max(0.0, report.load_tokens - self.own[r])
                self.heard[r] = (report, others, self.now_s)

    @rule(replica_id=ids, tokens=st.integers(0, 9), is_done=st.booleans())
    def work(self, replica_id: str, tokens: int, is_done: bool) -> None:
        if is_done:
            self.fleet.done(replica_id, tokens)
        else:
            self.fleet.sent(replica_id, tokens, 0, self.now_s)
        if replica_id in self.own:
            change = -tokens if is_done else tokens
            self.own[replica_id] = max(0.0, self.own[replica_id] + change)

    @rule(replica_id=ids)
    def suspect(self, replica_id: str) -> None:
        self.fleet.suspect(replica_id, self.now_s)
        if replica_id in self.own:
            self.suspects[replica_id] = self.now_s + CONFIG.suspect_s

    @rule(seconds=st.sampled_from([1.0, 5.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def agrees(self) -> None:
        fresh = {
            r: others
            for r, (_, others, at_s) in self.heard.items()
            if self.now_s - at_s <= CONFIG.report_max_age_s
        }
        mean = sum(fresh.values()) / len(fresh) if fresh else 0.0
        trusted = [r for r in self.own if self.suspects.get(r, 0.0) <= self.now_s] or self.own
        expected = {
            r: own + fresh.get(r, mean) if r in trusted else math.inf for r, own in self.own.items()
        }
        assert loads_of(self.fleet, self.now_s) == pytest.approx(expected)
        assert len(self.fleet) == len(self.own)


AgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstModel = AgainstModel.TestCase


def test_what_a_replica_tells_beside_its_tokens_is_fresher_than_its_report() -> None:
    fleet = make_fleet({"a": 100, "b": 100})
    fleet.sent("a", 30, 0, 0.0)
    fleet.told("a", 50, 1.0)
    assert loads_of(fleet, 1.0)["a"] == 50
    fleet.update({"a": make_report(2, 900), "b": make_report(2, 70)}, 1.5)
    assert loads_of(fleet, 1.5) == {"a": 50, "b": 70}
    fleet.update({"a": make_report(3, 900), "b": None}, 4.0)
    assert loads_of(fleet, 4.0)["a"] == 900
    fleet.told("gone", 5, 4.0)
    assert "gone" not in loads_of(fleet, 4.0)
