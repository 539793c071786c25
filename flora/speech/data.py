"""Clips and what is said in them: a table in, training and held-out clips out. Knows no model."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from contracts.errors import InvalidRequest
from flora.speech.audio import AudioLimits, read_audio_file

PATH_COLUMNS = ("path", "path_in_package")
_COLUMNS = ("language", "transcript")


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording. `language` is its ISO 639-1 code, as Whisper has it."""

    path: Path
    language: str
    transcript: str


@dataclass(frozen=True, slots=True)
class Utterance:
    """A clip that has been read: 16 kHz mono int16 PCM."""

    pcm: bytes
    language: str
    transcript: str


def read_clips(table: Path, audio_root: Path) -> list[Clip]:
    """A tab-separated table with the columns `path`, `language` and `transcript`; others may be
    there. Paths are below `audio_root`. Raises InvalidRequest.
    """
    try:
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows = list(reader)
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"{table.name} cannot be read: {error}", "data") from error
    path_column = next((name for name in PATH_COLUMNS if name in columns), None)
    if path_column is None or not {*_COLUMNS} <= {*columns}:
        raise InvalidRequest(
            f"{table.name} needs the columns path, language and transcript, split by tabs", "data"
        )
    clips = [_clip(row, path_column, audio_root, f"{table.name}:{i}") for i, row in _numbered(rows)]
    if len(clips) < 2:
        raise InvalidRequest(f"{table.name} needs two clips or more: one is held out", "data")
    return clips


def split_clips(
    clips: Sequence[Clip], heldout_fraction: float, seed: int
) -> tuple[list[Clip], list[Clip]]:
    """Shuffled clips to learn from, and held-out ones, with no sentence on both sides.

    Raises InvalidRequest where all clips say the same.
    """
    sentences = sorted({_sentence(clip) for clip in clips})
    if len(sentences) < 2:
        raise InvalidRequest("all clips say the same: nothing can be held out", "data")
    Random(seed).shuffle(sentences)
    num_heldout = min(max(1, round(heldout_fraction * len(sentences))), len(sentences) - 1)
    heldout = {*sentences[:num_heldout]}
    order = list(clips)
    Random(seed).shuffle(order)
    learned = [clip for clip in order if _sentence(clip) not in heldout]
    return learned, [clip for clip in order if _sentence(clip) in heldout]


def read_utterances(clips: Sequence[Clip], limits: AudioLimits) -> list[Utterance]:
    """The audio of every clip. Raises InvalidRequest that names the file at fault."""
    return [
        Utterance(read_audio_file(clip.path, limits), clip.language, clip.transcript)
        for clip in clips
    ]


def _numbered(rows: Sequence[dict[str, str]]) -> list[tuple[int, dict[str, str]]]:
    """Rows by their line; the first line is the header."""
    return list(enumerate(rows, 2))


def _clip(row: dict[str, str], path_column: str, audio_root: Path, where: str) -> Clip:
    path, language, transcript = (
        (row.get(name) or "").strip() for name in (path_column, *_COLUMNS)
    )
    if not path or not language or not transcript:
        raise InvalidRequest(f"{where}: path, language and transcript must not be empty", "data")
    return Clip(audio_root / path, language, transcript)


def _sentence(clip: Clip) -> str:
    return " ".join(clip.transcript.casefold().split())
