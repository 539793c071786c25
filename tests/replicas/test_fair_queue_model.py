"""The fair queue against its definition, call by call."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from replicas.fair_limits import FairLimits
from replicas.fair_queue import FairQueue
from tests.replicas.slow_queue import SlowQueue

TENANTS = ("ada", "bob", "eve", "joe")
WEIGHTS = {"ada": 1.0, "bob": 2.0, "eve": 1.0, "joe": 0.5}


class AgainstOracle(RuleBasedStateMachine):
    """Any calls in any order: the same picks, counters and refusals as the slow queue's."""

    @initialize(
        num_seqs=st.integers(1, 4),
        reserved=st.integers(0, 2),
        prefill=st.sampled_from([1, 30, 1000]),
        burst=st.sampled_from([0.0, 25.0, 1e9]),
        held=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def begin(self, num_seqs: int, reserved: int, prefill: int, burst: float, held: float) -> None:
        limits = FairLimits(
            num_seqs, reserved, prefill, max_waiting=6, burst_cost=burst, held_share=held
        )
        self.queue, self.slow = FairQueue(limits), SlowQueue(limits)
        self.waiting: set[int] = set()
        self.running: set[int] = set()

    @rule(tenant=st.sampled_from(TENANTS), num_seqs=st.integers(1, 3), prompt=st.integers(1, 40))
    def add(self, tenant: str, num_seqs: int, prompt: int) -> None:
        weight = WEIGHTS[tenant]
        is_refused = self.queue.is_full_for(tenant)
        request_id, shed = self.queue.add(tenant, weight, num_seqs, prompt, self.slow.now_s)
        same_id, may_go = self.slow.add(tenant, weight, num_seqs, prompt)
        assert request_id == same_id
        assert (shed in may_go) if may_go else shed is None
        assert is_refused == (shed == request_id)
        if shed is not None:
            self.waiting.discard(shed)
            self.slow.leave(shed)
        if shed != request_id:
            self.slow.accept()
            self.waiting.add(request_id)

    @rule()
    def pick(self) -> None:
        pick, expected = self.queue.pick(self.slow.now_s), self.slow.pick()
        assert (pick and pick[0]) == expected
        if pick is not None:
            self.waiting.remove(pick[0])
            self.running.add(pick[0])

    @precondition(lambda self: self.running)
    @rule(data=st.data(), num_tokens=st.integers(0, 5))
    def charge(self, data: st.DataObject, num_tokens: int) -> None:
        request_id = data.draw(st.sampled_from(sorted(self.running)))
        self.queue.charge(request_id, num_tokens)
        self.slow.charge(request_id, num_tokens)

    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        request_id = data.draw(st.sampled_from([*sorted(self.waiting | self.running), 10**6]))
        self.queue.leave(request_id, self.slow.now_s)
        self.slow.leave(request_id)
        self.waiting.discard(request_id)
        self.running.discard(request_id)

    @rule(seconds=st.sampled_from([1.0, 5.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.slow.now_s += seconds

    @invariant()
    def agree(self) -> None:
        self.queue.check_integrity()
        assert self.queue.num_waiting == len(self.waiting)
        assert self.queue.virtual_time == pytest.approx(self.slow.virtual_time)
        for tenant in self.slow.backlogged():
            assert self.queue.service(tenant) == pytest.approx(self.slow.counters[tenant])


AgainstOracle.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAgainstOracle = AgainstOracle.TestCase
