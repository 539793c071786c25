"""What is learnt from and what is held out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidRequest
from flora.adapter_data import AdapterData, hold_out


@given(st.integers(2, 60), st.floats(0.001, 0.999), st.integers(0, 5))
def test_everything_is_on_one_side_and_neither_is_empty(
    count: int, fraction: float, seed: int
) -> None:
    learned, heldout = hold_out(range(count), fraction, seed)
    assert sorted(learned + heldout) == list(range(count))
    assert len(learned) >= 1
    assert len(heldout) == min(max(1, round(fraction * count)), count - 1)
    assert hold_out(range(count), fraction, seed) == (learned, heldout)


def test_an_adapter_without_data_is_named() -> None:
    for learned, heldout in (([], [1]), ([1], [])):
        with pytest.raises(InvalidRequest, match="ann"):
            AdapterData("ann", learned, heldout)
