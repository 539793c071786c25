import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.quantiles import POINTS, curve, points, quantile, share_of

samples = st.lists(st.floats(0, 1e6), min_size=1, max_size=200)


@given(samples, st.floats(0.01, 1))
def test_a_quantile_is_numpys_by_inverted_distribution(values: list[float], share: float) -> None:
    # numpy multiplies in another order: where the product is a whole number, either may round.
    place = share * len(values)
    if abs(place - round(place)) > 1e-9 or share == 1:
        expected = np.quantile(values, share, method="inverted_cdf")
        assert quantile(values, share) == expected


@given(samples)
def test_points_grow_and_are_samples(values: list[float]) -> None:
    found = points(values)
    assert list(found) == list(POINTS)
    assert list(found.values()) == sorted(found.values())
    assert set(found.values()) <= set(values)
    assert found["max"] == max(values)


@given(samples)
def test_a_curve_goes_from_the_least_to_the_most(values: list[float]) -> None:
    found = curve(values)
    assert (found[0], found[-1], len(found)) == (min(values), max(values), 101)
    assert found == sorted(found)


def test_nothing_has_no_quantiles() -> None:
    assert points([]) == {}
    assert curve([]) == []
    with pytest.raises(ValueError, match="no samples"):
        quantile([], 0.5)


def test_names_of_quantiles() -> None:
    assert math.isclose(share_of("p95"), 0.95)
    assert share_of("max") == 1.0
    with pytest.raises(ValueError, match="p101"):
        share_of("p101")
