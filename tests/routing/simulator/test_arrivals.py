import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.simulator.arrivals import Trace, poisson


@given(rate=st.floats(50, 2000), seed=st.integers(0, 100))
def test_poisson_times_have_their_rate_and_spread(rate: float, seed: int) -> None:
    trace = poisson(rate, 5000 / rate, np.random.default_rng(seed))
    gaps = np.diff(trace.times_s)
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(1 / rate, rel=0.1)
    assert gaps.std() == pytest.approx(1 / rate, rel=0.15)


def test_lengths_have_the_mean_that_was_asked_for() -> None:
    trace = poisson(1000, 50, np.random.default_rng(0), prompt_tokens=300, answer_tokens=60)
    assert trace.prompt_tokens.mean() == pytest.approx(300, rel=0.03)
    assert trace.answer_tokens.mean() == pytest.approx(60, rel=0.03)
    assert min(trace.prompt_tokens.min(), trace.answer_tokens.min()) >= 1


@given(rate=st.floats(0.5, 500), seconds=st.floats(4, 50), size=st.integers(2, 40))
def test_a_scaled_trace_has_the_rate_and_keeps_its_shape(
    rate: float, seconds: float, size: int
) -> None:
    rng = np.random.default_rng(size)
    times = np.cumsum(rng.exponential(3.0, size))
    trace = Trace(times - times[0], np.arange(size) + 1, np.arange(size) + 100)
    if round(rate * seconds) < 2:
        return
    scaled = trace.scaled(rate, seconds)
    number = round(rate * seconds)
    assert len(scaled.times_s) == number
    assert scaled.prompt_tokens.tolist() == [n % size + 1 for n in range(number)]
    turn = scaled.times_s[size - 1 :: size]
    assert turn == pytest.approx(np.arange(1, len(turn) + 1) * size / rate)
    gaps = np.diff(scaled.times_s)[: size - 1]
    real = np.diff(times)[: len(gaps)]
    assert gaps / gaps.sum() == pytest.approx(real / real.sum())


def test_a_trace_of_one_request_is_refused() -> None:
    with pytest.raises(ValueError, match="two requests"):
        Trace(np.zeros(1), np.ones(1, np.int64), np.ones(1, np.int64))
