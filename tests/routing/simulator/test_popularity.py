import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.simulator.popularity import Popularity, words_of, zipf_ranks

EXPONENTS = st.sampled_from((0.0, 0.5, 1.0, 1.3))


@given(num_ranks=st.integers(1, 50), exponent=EXPONENTS, seed=st.integers(0, 1000))
def test_ranks_have_their_shares(num_ranks: int, exponent: float, seed: int) -> None:
    number = 20_000
    drawn = zipf_ranks(number, num_ranks, exponent, np.random.default_rng(seed))
    assert drawn.min() >= 1
    assert drawn.max() <= num_ranks
    shares = np.arange(1, num_ranks + 1) ** -exponent
    expected = shares / shares.sum()
    found = np.bincount(drawn, minlength=num_ranks + 1)[1:] / number
    deviation = np.sqrt(expected * (1 - expected) / number)
    assert np.all(np.abs(found - expected) <= 6 * deviation + 1e-3)


def test_ten_million_ranks_have_the_shares_of_zipfs_law() -> None:
    drawn = zipf_ranks(200_000, 10_000_000, 1.0, np.random.default_rng(0))
    harmonic = np.log(10_000_000) + 0.5772
    assert (drawn == 1).mean() == pytest.approx(1 / harmonic, rel=0.05)
    assert (drawn <= 1000).mean() == pytest.approx(7.485 / harmonic, rel=0.02)
    assert drawn.max() > 5_000_000


def test_words_differ_and_fill_64_bits() -> None:
    words = words_of(np.arange(100_000))
    assert len(np.unique(words)) == 100_000
    assert words.min() > 0
    bits = (words[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.02


def test_one_adapter_may_be_hot() -> None:
    words = Popularity(1000, 1.0, hot_share=0.6).draw(20_000, np.random.default_rng(0))
    _, counts = np.unique(words, return_counts=True)
    assert counts.max() / 20_000 == pytest.approx(0.6, abs=0.02)


@pytest.mark.parametrize("wrong", [(0, 1.0, 0.0), (1, -1.0, 0.0), (1, 1.0, 1.1)])
def test_what_makes_no_sense_is_refused(wrong: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Popularity(*wrong)
