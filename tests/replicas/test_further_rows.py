"""Further rows lie token by token behind the first ones, as one token at a time says."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flora.layout import AdapterLayout
from replicas.further_rows import send
from tests.flora.layouts import layouts
from tests.replicas.rows import filled_state, row_pairs


@settings(max_examples=40)
@given(data=st.data(), layout=layouts(dtypes=("float32",)))
def test_every_token_finds_its_own_rows(
    data: st.DataObject, layout: AdapterLayout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pairs = data.draw(st.lists(row_pairs(layout), min_size=1, max_size=3))
    state = filled_state(tmp_path_factory.mktemp("rows"), layout, pairs, [])
    for _ in range(2):
        slots = data.draw(st.lists(st.integers(0, len(pairs)), max_size=8))
        state.set_tokens(slots)
        counts, offsets = state.further.table
        for group in range(len(layout.groups)):
            first = state.further.first_rows(group, len(slots) + 2).tolist()
            row = 0
            for token, slot in enumerate(slots):
                extra = pairs[slot - 1] if slot else (0,) * len(layout.groups)
                assert first[token] == row
                assert counts[slot, group] == extra[group]
                if extra[group]:
                    assert offsets[slot, group] == layout.extra_offsets(extra)[group]
                row += extra[group]
            assert first[len(slots) :] == [row, row]
            assert row == state.extra_rows[group]


def test_what_is_sent_may_be_overwritten() -> None:
    source, target = torch.arange(4), torch.zeros(4, dtype=torch.int64)
    assert send(source, target) is target
    source.zero_()
    assert target.tolist() == [0, 1, 2, 3]
