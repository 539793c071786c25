from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.draw import adapters, asks, lengths, poisson_times, zipf_adapters
from loadtest.plan import BASE
from tests.loadtest.loads import make_load, rng, write_traces


@given(st.floats(0.1, 50), st.floats(0, 10), st.floats(0, 30), st.integers(0, 1000))
def test_times_lie_in_order_within_their_bounds(
    rate: float, begin_s: float, length_s: float, seed: int
) -> None:
    times = poisson_times(rate, begin_s, begin_s + length_s, rng(seed))
    assert np.all(np.diff(times) >= 0)
    assert np.all((times >= begin_s) & (times <= begin_s + length_s))


def test_gaps_of_poisson_times_are_exponential() -> None:
    gaps = np.diff(poisson_times(8.0, 0.0, 2000.0, rng()))
    assert np.mean(gaps) == pytest.approx(1 / 8, rel=0.03)
    # Of an exponential distribution alone, the deviation is the mean and e**-1 exceed it.
    assert np.std(gaps) == pytest.approx(np.mean(gaps), rel=0.03)
    assert np.mean(gaps > np.mean(gaps)) == pytest.approx(np.exp(-1), rel=0.03)


@pytest.mark.parametrize("skew", [0.0, 1.0, 1.5])
def test_popularity_follows_zipf(skew: float) -> None:
    found = Counter(zipf_adapters(200_000, 50, skew, rng()).tolist())
    for rank in (2, 5, 10):
        assert found[0] / found[rank - 1] == pytest.approx(rank**skew, rel=0.12)


def test_the_base_model_has_its_share_or_all() -> None:
    drawn = adapters(10_000, make_load(base_share=0.25), rng())
    assert np.mean(drawn == BASE) == pytest.approx(0.25, abs=0.02)
    assert set(adapters(10, make_load(num_adapters=0), rng()).tolist()) == {BASE}


def test_uniform_lengths_lie_around_their_means() -> None:
    prompts, answers = lengths(5000, make_load(prompt_tokens=64, answer_tokens=1), rng())
    assert (prompts.min(), prompts.max()) == (32, 96)
    assert np.mean(prompts) == pytest.approx(64, rel=0.02)
    assert set(answers.tolist()) == {1}


def test_real_lengths_are_of_the_papers_range_shrunk_and_clipped(tmp_path: Path) -> None:
    load = make_load(
        lengths="sharegpt", data=write_traces(tmp_path), shrink=10.0, max_answer_tokens=50
    )
    prompts, answers = lengths(100, load, rng())
    assert set(zip(prompts.tolist(), answers.tolist(), strict=True)) == {(29, 50), (8, 4)}


def test_missing_data_is_named_with_the_way_out() -> None:
    with pytest.raises(FileNotFoundError, match="say with --data where"):
        lengths(1, make_load(lengths="sharegpt", data=Path("/nowhere")), rng())


def test_a_seed_decides_the_asks() -> None:
    assert asks(20, make_load(), rng(3)) == asks(20, make_load(), rng(3))
    assert asks(20, make_load(), rng(3)) != asks(20, make_load(), rng(4))
