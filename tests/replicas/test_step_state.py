import gc
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from replicas.slab import Slab
from replicas.step_state import STATES, StepState
from tests.replicas.rows import CPU, filled_state, row_pairs, small_layout

LAYOUT = small_layout()
NUM_SLOTS = 3
MAX_TOKENS = 24
STEPS = st.lists(st.lists(st.integers(0, NUM_SLOTS), max_size=MAX_TOKENS), min_size=1, max_size=4)


def slow_pairs(state: StepState, slots: list[int], group: int) -> list[tuple[int, int]]:
    """Token and flat start of every further pair, one at a time."""
    slab = state.slab
    found = []
    for token, slot in enumerate(slots):
        extra_pairs = [int(n) for n in slab.extra_pairs[slot]]
        start = LAYOUT.extra_offsets(extra_pairs)[group]
        for nth in range(extra_pairs[group]):
            offset = start + nth * LAYOUT.pair_width(group)
            found.append((token, slot * LAYOUT.row_width + offset))
    return found


@given(data=st.data(), steps=STEPS)
def test_every_step_counts_and_finds_its_own_pairs(
    data: st.DataObject, steps: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [data.draw(row_pairs(LAYOUT)) for _ in range(NUM_SLOTS)]
    state = filled_state(tmp_path_factory.getbasetemp(), LAYOUT, rows, [], MAX_TOKENS)
    for slots in steps:
        state.set_tokens(slots)
        padded = slots + [0] * (MAX_TOKENS - len(slots))
        assert state.slots.tolist() == padded
        for group in range(len(LAYOUT.groups)):
            expected = slow_pairs(state, slots, group)
            assert int(state.extra_rows[group]) == len(expected)
            for num_tokens in (len(slots), MAX_TOKENS):
                tokens, starts = state.extra_pairs_of(group, num_tokens)
                assert (tokens.dtype, starts.dtype) == (torch.int64, torch.int64)
                assert list(zip(tokens.tolist(), starts.tolist(), strict=True)) == expected


def test_rank_one_adapters_need_no_further_product(tmp_path: Path) -> None:
    state = filled_state(tmp_path, LAYOUT, [(0, 0), (1, 0)], [0, 1, 1])
    assert state.extra_rows.tolist() == [0, 0]
    state.set_tokens([1, 2, 2])
    assert state.extra_rows.tolist() == [2, 0]
    state.set_tokens([])
    assert state.extra_rows.tolist() == [0, 0]


def test_what_compiled_graphs_keep_stays_where_it_is(tmp_path: Path) -> None:
    state = filled_state(tmp_path, LAYOUT, [(0, 0)], [1] * 5)
    before = (state.slots.data_ptr(), state.extra_rows.data_ptr())
    state.set_tokens([1])
    assert (state.slots.data_ptr(), state.extra_rows.data_ptr()) == before
    assert state.slots.dtype == state.extra_rows.dtype == torch.int32


def test_more_tokens_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    state = filled_state(tmp_path, LAYOUT, [(0, 0)], [1], max_num_tokens=4)
    with pytest.raises(ValueError, match="shape"):
        state.set_tokens([1] * 5)


def test_a_state_is_found_by_its_id_as_long_as_it_lives() -> None:
    slab = Slab(LAYOUT, 1, CPU)
    first, second = StepState(slab, 1), StepState(slab, 1)
    assert (STATES[first.id], STATES[second.id]) == (first, second)
    gone = first.id
    del first
    gc.collect()
    assert gone not in STATES
