import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidRequest
from flora.eval.estimate import estimate


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_interval_holds_only_what_the_items_allow(parts: list[float]) -> None:
    found = estimate(parts)
    assert found.value == pytest.approx(sum(parts) / len(parts))
    assert min(parts) - 1e-9 <= found.low <= found.high <= max(parts) + 1e-9
    assert found.n == len(parts)


def test_error_and_interval_are_those_of_a_proportion() -> None:
    found = estimate([1.0] * 80 + [0.0] * 320, seed=3)
    assert found.value == 0.2
    assert found.standard_error == pytest.approx(0.02, rel=0.15)  # sqrt(0.2 * 0.8 / 400)
    assert found.low == pytest.approx(0.2 - 1.96 * 0.02, abs=0.01)
    assert found.high == pytest.approx(0.2 + 1.96 * 0.02, abs=0.01)
    assert found == estimate([1.0] * 80 + [0.0] * 320, seed=3)


def test_a_ratio_is_of_sums() -> None:
    assert estimate([1, 3], [2, 10]).value == 4 / 12


def test_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="nothing to judge"):
        estimate([])
    with pytest.raises(InvalidRequest, match="nothing to judge"):
        estimate([0.0], [0.0])
