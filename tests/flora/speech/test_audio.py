"""Audio files: what is read, and what is refused with the reason."""

import io
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contracts.errors import InvalidRequest
from flora.speech.audio import (
    AudioLimits,
    duration_s,
    from_pcm,
    read_audio,
    read_audio_file,
    to_pcm,
)

LIMITS = AudioLimits(max_duration_s=2.0)
TONE = (0.5 * np.sin(np.arange(16000) / 7)).astype(np.float32)


def encode(samples: object, rate_hz: int = 16000, kind: str = "WAV", **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=kind, **options)
    return file.getvalue()


@given(arrays(np.int16, st.integers(0, 50)))
def test_pcm_and_back_is_exact(numbers: np.ndarray) -> None:
    pcm = numbers.astype("<i2").tobytes()
    assert to_pcm(from_pcm(pcm)) == pcm


def test_pcm_clips_what_is_too_loud() -> None:
    assert from_pcm(to_pcm(np.array([2.0, -2.0], np.float32))).tolist() == [32767 / 32768, -1.0]


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_sixteen_bits_at_16_khz_are_kept_exactly(kind: str) -> None:
    pcm = to_pcm(TONE)
    content = encode(np.frombuffer(pcm, "<i2"), kind=kind, subtype="PCM_16")
    assert read_audio(content, LIMITS) == pcm
    assert duration_s(pcm) == 1.0


def test_ogg_at_another_rate_and_in_stereo() -> None:
    stereo = np.stack([TONE, TONE], 1)
    found = from_pcm(read_audio(encode(stereo, 48000, "OGG"), LIMITS))
    assert len(found) == pytest.approx(16000 / 3, abs=1)
    assert 0.2 < np.abs(found).max() < 0.6


def test_channels_are_averaged() -> None:
    content = encode(np.stack([TONE, -TONE], 1))
    assert not np.frombuffer(read_audio(content, LIMITS), "<i2").any()


BAD = {
    "the file is empty": b"",
    "neither WAV, FLAC nor Ogg": b"ID3\x04" + bytes(100),
    "WAV file cannot be read": b"RIFF" + bytes(100),
    "FLAC file cannot be read": encode(TONE, kind="FLAC")[:60],
    "OGG file cannot be read": b"OggS" + bytes(100),
    "bytes, at most": bytes(20 << 20),
    "longer than 2 s": encode(np.zeros(32002)),
    "not one of 8000": encode(TONE, 17000),
    "has 3 channels": encode(np.zeros((10, 3))),
    "holds no sound": encode(np.zeros(0)),
    "not finite": encode(np.array([0.0, np.nan]), subtype="FLOAT"),
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_files_are_refused_with_the_reason(reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        read_audio(BAD[reason], LIMITS)
    assert caught.value.param == "file"


def test_a_header_that_promises_more_than_there_is_costs_nothing() -> None:
    content = bytearray(encode(TONE, subtype="PCM_16"))
    place = content.index(b"data") + 4
    content[place : place + 4] = struct.pack("<I", 0xFFFFFF00)
    try:
        found = read_audio(bytes(content), LIMITS)
    except InvalidRequest:
        return
    assert len(found) == 2 * len(TONE)


@given(st.binary(max_size=200), st.sampled_from([b"RIFF", b"fLaC", b"OggS"]), st.integers(0, 400))
def test_no_bytes_bring_it_down(tail: bytes, magic: bytes, cut: int) -> None:
    good = encode(TONE[:300], subtype="PCM_16")
    for content in (magic + tail, good[:cut] + tail + good[cut:]):
        with suppress(InvalidRequest):
            assert 0 < len(read_audio(content, LIMITS)) <= 2 * 16000 * 2


def test_a_file_on_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="absent"):
        read_audio_file(tmp_path / "absent.wav", LIMITS)
    (tmp_path / "bad.wav").write_bytes(b"x")
    with pytest.raises(InvalidRequest, match=r"bad\.wav.*neither"):
        read_audio_file(tmp_path / "bad.wav", LIMITS)


def test_limits_are_sane() -> None:
    with pytest.raises(InvalidRequest):
        AudioLimits(max_duration_s=0)
