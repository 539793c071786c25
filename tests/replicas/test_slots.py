import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.errors import ServiceError
from replicas.slots import IDENTITY_SLOT, SlotTable, SlotWrite

IDS = st.integers(1, 9)
NUM_SLOTS = 4


class SlotMachine(RuleBasedStateMachine):
    """The table against a list in order of use, and what a slab would hold after its writes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SlotTable(NUM_SLOTS)
        self.used: list[int] = []  # oldest first
        self.pinned: set[int] = set()
        self.slab: dict[int, int] = {}

    @rule(batch=st.lists(IDS, max_size=NUM_SLOTS + 2))
    def activate(self, batch: list[int]) -> None:
        active = set(batch)
        missing = [i for i in dict.fromkeys(batch) if i not in self.used]
        idle = [i for i in self.used if i not in active | self.pinned]
        num_free = NUM_SLOTS - len(self.used)
        if missing and len(missing) > num_free + len(idle):
            before = (self.slots(), self.used.copy())
            with pytest.raises(ServiceError):
                self.table.activate(batch)
            assert (self.slots(), self.used) == before
            return
        writes = self.table.activate(batch)
        assert [write.adapter_id for write in writes] == missing
        evicted = idle[: max(0, len(missing) - num_free)]
        assert [write.evicted_id for write in writes if write.evicted_id] == evicted
        self.apply(writes)
        for adapter_id in dict.fromkeys([*evicted, *batch]):
            if adapter_id in self.used:
                self.used.remove(adapter_id)
        # The last mention of an id is its last use.
        self.used += reversed(dict.fromkeys(reversed(batch)))

    @rule(adapter_id=IDS)
    def release(self, adapter_id: int) -> None:
        assert self.table.release(adapter_id) == (adapter_id in self.used)
        if adapter_id in self.used:
            self.used.remove(adapter_id)
        self.pinned.discard(adapter_id)

    @rule(adapter_id=IDS)
    def pin(self, adapter_id: int) -> None:
        assert self.table.pin(adapter_id) == (adapter_id in self.used)
        if adapter_id in self.used:
            self.pinned.add(adapter_id)

    @precondition(lambda self: len(self.used) > 2)
    @rule()
    def clear(self) -> None:
        self.table.clear()
        self.used, self.pinned = [], set()

    @invariant()
    def agrees(self) -> None:
        self.table.check_integrity()
        assert self.table.resident == set(self.used)
        for adapter_id, slot in self.slots().items():
            assert 1 <= slot <= NUM_SLOTS
            assert self.slab[slot] == adapter_id

    def slots(self) -> dict[int, int]:
        return {i: self.table.slot_of(i) for i in self.used}

    def apply(self, writes: tuple[SlotWrite, ...]) -> None:
        for write in writes:
            if write.evicted_id:
                assert self.slab[write.slot] == write.evicted_id
            self.slab[write.slot] = write.adapter_id


TestSlots = SlotMachine.TestCase


def test_what_has_no_slot_reads_as_the_identity() -> None:
    table = SlotTable(2)
    assert table.slot_of(0) == table.slot_of(7) == IDENTITY_SLOT
    table.activate([7])
    table.release(7)
    assert table.slot_of(7) == IDENTITY_SLOT


def test_the_least_recently_used_goes_first() -> None:
    table = SlotTable(3)
    table.activate([1, 2, 3])
    table.activate([1])
    (write,) = table.activate([4])
    assert (write.evicted_id, write.slot) == (2, write.slot)
    assert table.resident == {1, 3, 4}


def test_the_running_batch_is_never_evicted_by_itself() -> None:
    table = SlotTable(3)
    table.activate([1, 2, 3])
    writes = table.activate([4, 1, 5])
    assert [(write.adapter_id, write.evicted_id) for write in writes] == [(4, 2), (5, 3)]


def test_pins_hold_until_release() -> None:
    table = SlotTable(2)
    table.activate([1, 2])
    assert table.pin(1)
    assert table.pin(2)
    with pytest.raises(ServiceError, match="2 pinned"):
        table.activate([3])
    table.release(1)
    assert table.activate([3])[0].evicted_id == 0
    assert table.resident == {2, 3}


def test_a_table_has_slots() -> None:
    with pytest.raises(ServiceError, match="num_slots"):
        SlotTable(0)
