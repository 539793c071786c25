import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.crossover import Costs, measure_costs, measured_rank, slope
from benchmarks.paper_models import PaperModel

POSITIVE = st.floats(1e-3, 1e3)


@given(bmm_s=POSITIVE, mm_s=POSITIVE, width=st.floats(8, 1e4))
def test_the_predicted_rank_is_where_the_papers_inequality_turns(
    bmm_s: float, mm_s: float, width: float
) -> None:
    rank = Costs(bmm_s, mm_s, width, math.inf).rank

    def holds(r: float) -> bool:
        return 2 * bmm_s / (width * mm_s) + 1 / r >= 1

    assert rank >= 1
    assert holds(0.999 * rank if rank < math.inf else 1e9)
    if rank < 1e6:
        assert not holds(1.001 * rank)


@given(rank=st.floats(1.01, 15.9))
def test_a_measured_crossing_is_found_where_it_is(rank: float) -> None:
    ranks = [1, 2, 4, 8, 16]
    ours = [100 / r for r in ranks]
    theirs = [100 / rank for _ in ranks]
    assert measured_rank(ranks, ours, theirs) == pytest.approx(rank)


def test_a_lead_that_is_never_lost_has_no_crossover_and_none_at_all_is_the_first_rank() -> None:
    assert measured_rank([1, 2], [3.0, 2.0], [1.0, 1.0]) == math.inf
    assert measured_rank([1, 2], [1.0, 2.0], [2.0, 1.0]) == 1


def test_the_slope_is_of_the_line_through_the_origin() -> None:
    assert slope([1, 2, 4], [3, 6, 12]) == pytest.approx(3)
    assert slope([1, 10], [5, 10]) == pytest.approx(105 / 101)


def test_costs_of_real_products_are_positive_and_about_the_models_own_width() -> None:
    model = PaperModel("llama", 1, 64, 4, 2, 128, 100, 64)
    costs = measure_costs(model, (1, 2), {4: 0.5, 8: 0.5}, "cpu")
    assert min(costs.mm_s, costs.bmm_s) > 0
    products = sum(n_in * n_out for n_in, n_out in model.modules().values())
    numbers = sum(n_in + n_out for n_in, n_out in model.modules().values())
    assert costs.width == pytest.approx(2 * products / numbers)
    assert costs.rank >= 1
