"""Audio files to what a speech model hears. A file may be hostile: format, rate, size, length."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from contracts.errors import InvalidRequest
from flora.speech.resample import Samples, resample

SAMPLE_RATE_HZ = 16_000
"""What Whisper hears, one channel."""

_FULL_SCALE = 32768.0
_MAGIC = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "OGG"}
_SUBTYPES = {"WAV": "WAV", "WAVEX": "WAV", "FLAC": "FLAC", "OGG": "OGG"}
_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 96000)
_MAX_CHANNELS = 2


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Bounds of one clip: of the file, and of what it holds once it is read."""

    max_file_bytes: int = 16 << 20
    max_duration_s: float = 30.0

    def __post_init__(self) -> None:
        if self.max_file_bytes < 1 or not 0 < self.max_duration_s <= 3600:
            raise InvalidRequest("a clip has bytes, and lasts longer than 0 s, at most an hour")


def read_audio(content: bytes, limits: AudioLimits) -> bytes:
    """A WAV, FLAC or Ogg file as 16 kHz mono int16 PCM, little-endian: two bytes a sample.

    The channels are averaged. No more is ever decoded than `max_duration_s`, whatever the header
    says. Raises InvalidRequest that names what is wrong.
    """
    if not content:
        raise _bad("the file is empty")
    if len(content) > limits.max_file_bytes:
        raise _bad(f"the file has {len(content)} bytes, at most {limits.max_file_bytes}")
    kind = _MAGIC.get(content[:4])
    if kind is None:
        raise _bad("the file is neither WAV, FLAC nor Ogg")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            samples, rate_hz = _read(file, kind, limits)
    except (soundfile.SoundFileError, ValueError, OverflowError) as error:
        raise _bad(f"the {kind} file cannot be read") from error
    if not len(samples):
        raise _bad("the file holds no sound")
    if not np.isfinite(samples).all():
        raise _bad("the file holds numbers that are not finite")
    return to_pcm(resample(samples, rate_hz, SAMPLE_RATE_HZ))


def read_audio_file(path: Path, limits: AudioLimits) -> bytes:
    """`read_audio` of a file on disk. Raises InvalidRequest that names the file."""
    try:
        return read_audio(path.read_bytes(), limits)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}", "data") from error
    except InvalidRequest as error:
        raise InvalidRequest(f"{path}: {error}", "data") from error


def to_pcm(samples: Samples) -> bytes:
    """float32 in -1..1 as int16 little-endian; what is beyond is clipped."""
    scaled = np.clip(np.rint(samples * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
    pcm: bytes = scaled.astype("<i2").tobytes()
    return pcm


def from_pcm(pcm: bytes) -> Samples:
    """The inverse of `to_pcm`, exact: float32 [num_samples]."""
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(_FULL_SCALE)


def duration_s(pcm: bytes) -> float:
    """How long 16 kHz mono int16 PCM lasts."""
    return len(pcm) / 2 / SAMPLE_RATE_HZ


def _read(file: Any, kind: str, limits: AudioLimits) -> tuple[Samples, int]:
    """Mono float32 [num_samples] and their rate."""
    if _SUBTYPES.get(file.format) != kind:
        raise _bad(f"the file begins as {kind}, but is something else")
    rate_hz = int(file.samplerate)
    if rate_hz not in _RATES_HZ:
        raise _bad(f"its sample rate is {rate_hz} Hz, not one of {', '.join(map(str, _RATES_HZ))}")
    if not 1 <= file.channels <= _MAX_CHANNELS:
        raise _bad(f"it has {file.channels} channels, at most {_MAX_CHANNELS}")
    # The header may promise anything: one sample more than allowed is all that is ever decoded.
    max_samples = int(limits.max_duration_s * rate_hz)
    channels: NDArray[np.float32] = file.read(max_samples + 1, dtype="float32", always_2d=True)
    if len(channels) > max_samples:
        raise _bad(f"it lasts longer than {limits.max_duration_s:g} s")
    return np.ascontiguousarray(channels.mean(axis=1, dtype=np.float32)), rate_hz


def _bad(why: str) -> InvalidRequest:
    return InvalidRequest(f"'file': {why}", "file")
