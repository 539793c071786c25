import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.simulator.tiers import NodeFiles, SlotTable


@given(uses=st.lists(st.integers(1, 12), max_size=200), num_slots=st.integers(1, 6))
def test_slots_keep_the_latest_used(uses: list[int], num_slots: int) -> None:
    slots = SlotTable(num_slots)
    latest: list[int] = []
    for adapter in uses:
        evicted = slots.acquire(adapter)
        slots.release(adapter)
        latest = [adapter, *(other for other in latest if other != adapter)]
        assert evicted == (latest.pop() if len(latest) > num_slots else None)
        assert slots.residents(99) == tuple(latest)
    assert slots.residents(2) == tuple(latest[:2])


def test_what_is_in_use_stays() -> None:
    slots = SlotTable(2)
    slots.acquire(1)
    slots.acquire(2)
    slots.release(2)
    assert slots.acquire(3) == 2
    assert 1 in slots
    with pytest.raises(RuntimeError, match="all 2 slots"):
        slots.acquire(4)


def test_a_node_forgets_the_file_that_was_used_longest_ago() -> None:
    files = NodeFiles(2)
    files.add(1, 0.0)
    files.add(2, 5.0)
    assert files.use(1) == 0.0
    files.add(3, 6.0)
    assert files.use(2) is None
    assert (files.use(1), files.use(3)) == (0.0, 6.0)
