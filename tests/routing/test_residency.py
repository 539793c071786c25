"""Who holds what, against a list of all that was ever said."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from routing.residency import Residency

LEARNED_S = 10.0
ADAPTERS = range(1, 7)
slots = st.integers(0, 3)


def test_what_was_reported_is_held_until_a_report_without_it() -> None:
    residency = Residency(LEARNED_S)
    residency.report(3, [7, 8], now_s=0.0)
    assert set(residency.holders(7)) == {3}
    residency.report(3, [8], now_s=1000.0)
    assert not residency.holders(7)
    assert set(residency.holders(8)) == {3}


def test_what_was_sent_is_believed_for_a_while() -> None:
    residency = Residency(LEARNED_S)
    residency.learn(3, 7, now_s=0.0)
    residency.report(3, [], now_s=LEARNED_S)
    assert set(residency.holders(7)) == {3}
    residency.report(3, [], now_s=LEARNED_S + 0.1)
    assert not residency.holders(7)


def test_what_is_sent_again_is_believed_anew() -> None:
    residency = Residency(LEARNED_S)
    for now_s in (0.0, 9.0):
        residency.learn(3, 7, now_s)
    residency.report(3, [], now_s=19.0)
    assert set(residency.holders(7)) == {3}


def test_what_is_sent_again_does_not_keep_what_is_not() -> None:
    residency = Residency(LEARNED_S)
    for adapter, now_s in ((7, 0.0), (8, 1.0), (7, 9.0)):
        residency.learn(3, adapter, now_s)
    residency.report(3, [], now_s=11.5)
    assert [set(residency.holders(adapter)) for adapter in (7, 8)] == [{3}, set()]


def test_without_reports_what_was_sent_is_let_go_too() -> None:
    residency = Residency(LEARNED_S)
    for second in range(1000):
        residency.learn(3, second, float(second))
    held = [adapter for adapter in range(1000) if residency.holders(adapter)]
    assert held == list(range(989, 1000))
    residency.check_integrity()


def test_nothing_of_a_replica_that_is_gone_stays() -> None:
    residency = Residency(LEARNED_S)
    residency.report(3, [7], now_s=0.0)
    residency.learn(3, 8, now_s=0.0)
    residency.report(4, [7], now_s=0.0)
    residency.forget(3)
    residency.forget(5)
    assert [set(residency.holders(adapter)) for adapter in (7, 8)] == [{4}, set()]
    assert repr(residency) == "<Residency 1 adapters, 1 replicas>"


class AgainstModel(RuleBasedStateMachine):
    """A dictionary of what each replica reported last, one of when it was sent what."""

    def __init__(self) -> None:
        super().__init__()
        self.residency = Residency(LEARNED_S)
        self.reported: dict[int, set[int]] = {}
        self.sent_s: dict[tuple[int, int], float] = {}
        self.now_s = 0.0

    def let_go(self, slot: int) -> None:
        """What was sent to a replica is looked through whenever something is heard of it."""
        for key, at_s in list(self.sent_s.items()):
            if key[0] == slot and self.now_s - at_s > LEARNED_S:
                del self.sent_s[key]

    @rule(slot=slots, residents=st.sets(st.sampled_from(ADAPTERS)))
    def report(self, slot: int, residents: set[int]) -> None:
        self.residency.report(slot, sorted(residents), self.now_s)
        self.reported[slot] = residents
        self.let_go(slot)

    @rule(slot=slots, adapter=st.sampled_from(ADAPTERS))
    def learn(self, slot: int, adapter: int) -> None:
        self.residency.learn(slot, adapter, self.now_s)
        self.sent_s[slot, adapter] = self.now_s
        self.let_go(slot)

    @rule(slot=slots)
    def forget(self, slot: int) -> None:
        self.residency.forget(slot)
        self.reported.pop(slot, None)
        self.sent_s = {key: at_s for key, at_s in self.sent_s.items() if key[0] != slot}

    @rule(seconds=st.sampled_from([0.5, 5.0, 10.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @invariant()
    def agrees(self) -> None:
        self.residency.check_integrity()
        for adapter in ADAPTERS:
            expected = {slot for slot, adapters in self.reported.items() if adapter in adapters}
            expected |= {slot for slot, sent in self.sent_s if sent == adapter}
            assert set(self.residency.holders(adapter)) == expected


AgainstModel.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAgainstModel = AgainstModel.TestCase
