from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidRequest
from flora.eval.pass_at_k import pass_at_k


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int, int]:
    n = draw(st.integers(1, 8))
    return n, draw(st.integers(0, n)), draw(st.integers(1, n))


@settings(deadline=None)
@given(counts())
def test_it_is_the_share_of_all_choices_that_hold_a_pass(nck: tuple[int, int, int]) -> None:
    n, c, k = nck
    choices = list(combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, choices)) / len(choices))


def test_pass_at_one_is_the_mean() -> None:
    assert pass_at_k(100, 7, 1) == pytest.approx(0.07)


@pytest.mark.parametrize("nck", [(5, 1, 6), (5, 6, 1), (5, -1, 1), (5, 1, 0)])
def test_what_cannot_be_is_refused(nck: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidRequest, match="samples"):
        pass_at_k(*nck)
