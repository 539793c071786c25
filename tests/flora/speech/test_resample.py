"""Other sample rates: the sound stays what it is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flora.speech.resample import Samples, _lowpass, resample

RATES = (8000, 11025, 16000, 22050, 44100, 48000)


def by_definition(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """Zeros between the samples, one long filter, every so many-th output."""
    divisor = np.gcd(from_hz, to_hz)
    up, down = to_hz // divisor, from_hz // divisor
    taps, half_length = _lowpass(up, down)
    sparse = np.zeros(len(samples) * up)
    sparse[::up] = samples
    filtered = np.convolve(sparse, taps)[half_length : half_length + len(sparse)]
    return filtered[::down].astype(np.float32)


@given(
    st.sampled_from([(8, 16), (16, 8), (3, 2), (441, 160), (2, 5)]),
    st.integers(1, 300),
    st.integers(0, 2**32 - 1),
)
def test_it_is_the_filter_by_definition(rates: tuple[int, int], n: int, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=n).astype(np.float32)
    found = resample(samples, *rates)
    assert len(found) == -(-n * rates[1] // rates[0])
    np.testing.assert_allclose(found, by_definition(samples, *rates), atol=1e-4)


@pytest.mark.parametrize("from_hz", RATES)
def test_a_tone_stays_a_tone(from_hz: int) -> None:
    hz, t = 1000.0, np.arange(from_hz) / from_hz
    found = resample(np.sin(2 * np.pi * hz * t).astype(np.float32), from_hz, 16000)
    wanted = np.sin(2 * np.pi * hz * np.arange(16000) / 16000)
    assert len(found) == 16000
    # The ends lack what would be beyond them.
    assert np.abs(found - wanted)[200:-200].max() < 0.01


def test_what_the_lower_rate_cannot_hold_is_gone() -> None:
    t = np.arange(48000) / 48000
    found = resample(np.sin(2 * np.pi * 12_000 * t).astype(np.float32), 48000, 16000)
    assert np.abs(found[200:-200]).max() < 0.01


def test_the_same_rate_changes_nothing() -> None:
    samples = np.arange(5, dtype=np.float32)
    assert resample(samples, 16000, 16000) is samples
    assert len(resample(samples[:0], 8000, 16000)) == 0
