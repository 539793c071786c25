"""Clips on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from tests.flora.speech.models import make_noise


def write_table(folder: Path, transcripts: Sequence[str]) -> Path:
    """A table of half-second clips in `folder`, named by their place."""
    lines = ["path\tlanguage\ttranscript"]
    for i, transcript in enumerate(transcripts):
        samples = np.frombuffer(make_noise(i), "<i2")
        soundfile.write(folder / f"{i}.wav", samples, 16000, subtype="PCM_16")
        lines.append(f"{i}.wav\tru\t{transcript}")
    table = folder / "clips.tsv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return table
