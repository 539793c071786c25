"""Whatever order two queues work in, a step reads what was written before it and nothing later."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from replicas.slot_order import Event, SlotOrder
from tests.replicas.queues import FakeCopies

NUM_SLOTS = 3
READERS = st.integers(0, 1)
SLOTS = st.integers(1, NUM_SLOTS)
TORN = -1


@dataclass
class Queued:
    """A write that its queue has."""

    event: Event

    def result(self) -> Event:
        return self.event


class Machine:
    """Slots, two queues and the order between them. Writes and steps take two turns each."""

    def __init__(self) -> None:
        self.queues = FakeCopies()
        self.order = SlotOrder()
        self.slots = [0] * (NUM_SLOTS + 1)
        self.ordered = [0] * (NUM_SLOTS + 1)
        self.wrong: list[str] = []
        self._count = 0

    def write(self, slot: int) -> None:
        self._count += 1
        value = self.ordered[slot] = self._count
        after = self.order.before_write(slot, self.queues.computing)
        if after is not None:
            self.queues.copying.wait_event(after)
        self.queues.copying.put(lambda: self._set(slot, TORN))
        event = self.queues.queue(lambda: self._set(slot, value), None)
        self.order.wrote(slot, Queued(event))

    def step(self, reader: int, slots: set[int]) -> None:
        self.order.before_step(reader, slots, self.queues.computing)
        for slot in sorted(slots) * 2:  # once as it begins, once as it ends
            self.queues.computing.put(self._read(slot, self.ordered[slot]))

    def _set(self, slot: int, value: int) -> None:
        self.slots[slot] = value

    def _read(self, slot: int, expected: int) -> Callable[[], None]:
        def read() -> None:
            if self.slots[slot] != expected:
                self.wrong.append(f"slot {slot}: {self.slots[slot]} for {expected}")

        return read


class AnyOrder(RuleBasedStateMachine):
    """Writes and steps are ordered by one thread; the queues go on whenever they like."""

    def __init__(self) -> None:
        super().__init__()
        self.machine = Machine()

    @rule(slot=SLOTS)
    def write(self, slot: int) -> None:
        self.machine.write(slot)

    @rule(reader=READERS, slots=st.sets(SLOTS))
    def step(self, reader: int, slots: set[int]) -> None:
        self.machine.step(reader, slots)

    @rule(turns=st.integers(1, 6))
    def copy(self, turns: int) -> None:
        for _ in range(turns):
            self.machine.queues.copying.step()

    @rule(turns=st.integers(1, 3))
    def compute(self, turns: int) -> None:
        for _ in range(turns):
            self.machine.queues.computing.step()

    @invariant()
    def every_step_read_its_own(self) -> None:
        assert not self.machine.wrong

    def teardown(self) -> None:
        queues = self.machine.queues
        while queues.copying.step() or queues.computing.step():
            pass
        assert queues.copying.is_empty
        assert queues.computing.is_empty
        assert not self.machine.wrong
        assert self.machine.slots == self.machine.ordered


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_step_waits_for_no_write_that_it_does_not_read(machine: Machine) -> None:
    machine.step(0, {1})
    machine.write(2)
    machine.step(0, {1, 3})
    machine.queues.computing.run()
    assert machine.queues.computing.is_empty
    machine.step(0, {2})
    machine.queues.computing.run()
    assert not machine.queues.computing.is_empty


def test_a_write_waits_for_no_step_that_does_not_read_its_slot(machine: Machine) -> None:
    machine.step(0, {1, 2})
    machine.queues.computing.run()  # both steps that read slot 2 are over
    machine.step(0, {1})
    machine.queues.computing.step()  # the mark behind them
    machine.write(3)
    machine.write(2)
    machine.queues.copying.run()
    assert machine.queues.copying.is_empty
    machine.write(1)
    machine.queues.copying.run()
    assert not machine.queues.copying.is_empty


def test_a_slot_that_is_written_once_is_waited_for_once(machine: Machine) -> None:
    machine.write(1)
    machine.queues.copying.run()
    for _ in range(3):
        machine.step(0, {1})
    assert len(machine.queues.computing._work) == 1 + 3 * 2
