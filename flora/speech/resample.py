"""Sample rates: a rational resampler in numpy. Knows no files."""

from math import gcd

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Samples = NDArray[np.float32]

# The width and the window that resample_poly of scipy.signal is known for.
_ZERO_CROSSINGS = 10
_KAISER_BETA = 5.0


def resample(samples: Samples, from_hz: int, to_hz: int) -> Samples:
    """`samples` [num_samples] at another rate: ceil(num_samples * to_hz / from_hz) of them.

    A windowed sinc that passes what both rates can hold, evaluated only where an output lies
    (polyphase, Crochiere & Rabiner 1983, chapter 3). Its cost grows with the terms of the reduced
    fraction of the rates.
    """
    divisor = gcd(from_hz, to_hz)
    up, down = to_hz // divisor, from_hz // divisor
    if up == down or not len(samples):
        return samples
    taps, half_length = _lowpass(up, down)
    num_outputs = -(-len(samples) * up // down)
    # Output n stands at input n * down / up: the taps of its phase meet `width` inputs around it.
    width = -(-len(taps) // up)
    padded = np.pad(samples, (width, width + down))
    windows = sliding_window_view(padded, width)
    resampled = np.empty(num_outputs, np.float32)
    for first in range(min(up, num_outputs)):
        phase = (first * down + half_length) % up
        own = np.zeros(width, np.float32)
        own[: len(taps[phase::up])] = taps[phase::up]
        newest = (np.arange(first, num_outputs, up) * down + half_length) // up
        resampled[first::up] = windows[newest + 1] @ own[::-1]
    return resampled


def _lowpass(up: int, down: int) -> tuple[Samples, int]:
    """Taps [2 * half_length + 1] at `up` times the input's rate; they keep a constant as it is."""
    widest = max(up, down)
    half_length = _ZERO_CROSSINGS * widest
    at = np.arange(-half_length, half_length + 1)
    taps = np.sinc(at / widest) * np.kaiser(2 * half_length + 1, _KAISER_BETA)
    return (taps * up / taps.sum()).astype(np.float32), half_length
