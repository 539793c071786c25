"""Training one adapter of a Whisper model: read, fit, write the folder. Knows no server."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from torch import nn

from contracts.errors import InvalidRequest
from flora.adapter_data import AdapterData
from flora.base_model import fingerprint
from flora.linear import linear_modules
from flora.recipe import Recipe
from flora.speech.audio import AudioLimits
from flora.speech.data import Utterance, read_clips, read_utterances, split_clips
from flora.speech.listener import Listener
from flora.speech.objective import SpeechExample, SpeechObjective
from flora.stacked_adapters import StackedAdapters
from flora.stacked_trainer import Clock, Progress, StackedTrainer
from flora.train import TrainReport, write_folder

Part = Literal["decoder", "all"]

_DECODER = "model.decoder."
_ENCODE_AT_ONCE = 4

Heard = Callable[[int, int], None]
"""Told how many clips are encoded, and of how many, while that goes on."""


@dataclass(frozen=True, slots=True)
class SpeechTrainConfig:
    """One training run over the clips of a table (see `read_clips`), whose paths are below
    `audio_root`.

    `part` says which linear layers are adapted: those of the decoder, or all. With the decoder's
    alone every clip is encoded once, which is most of the work. Raises InvalidRequest when a value
    is out of range.
    """

    model_dir: Path
    data_path: Path
    audio_root: Path
    out_dir: Path
    part: Part = "decoder"
    rank: int = 1
    tie_inputs: bool = True
    heldout_fraction: float = 0.15
    save_dtype: Literal["float32", "float16", "bfloat16"] = "bfloat16"
    recipe: Recipe = field(default_factory=lambda: Recipe(max_steps=100, checkpoint_steps=0))

    def __post_init__(self) -> None:
        if self.part not in get_args(Part):
            raise InvalidRequest(f"part is one of {', '.join(get_args(Part))}", "part")
        if self.rank < 1:
            raise InvalidRequest("rank must be at least 1", "rank")
        if not 0 < self.heldout_fraction < 1:
            raise InvalidRequest("heldout_fraction must be between 0 and 1", "heldout_fraction")


def train_speech(
    config: SpeechTrainConfig,
    progress: Progress,
    clock: Clock = time.perf_counter,
    heard: Heard = lambda num_clips, num_all: None,
) -> TrainReport:
    """Trains on `data_path` and writes adapter_config.json and adapter_model.safetensors.

    Raises InvalidRequest when the data or the model cannot be used.
    """
    base = fingerprint(config.model_dir)
    listener = Listener(config.model_dir)
    data = _read(config, listener, heard)
    stack = StackedAdapters(
        listener.model,
        1,
        config.rank,
        part_modules(listener.model, config.part),
        config.tie_inputs,
        config.recipe.seed,
    )
    objective = SpeechObjective(listener)
    with tempfile.TemporaryDirectory() as unused:
        trainer = StackedTrainer(
            listener.model, stack, objective, [data], config.recipe, Path(unused), progress, clock
        )
        (before,) = trainer.heldout_losses([0])
        trainer.fit()
        (after,) = trainer.heldout_losses([0])
    files = stack.to_files(0, config.model_dir.name, base)
    num_bytes = write_folder(files, config.save_dtype, config.out_dir)
    (num_steps,) = trainer.adamw.num_steps
    return TrainReport(
        data.name, config.out_dir, stack.num_parameters, num_bytes, num_steps, before, after
    )


def part_modules(model: nn.Module, part: Part) -> list[str]:
    """Names of the linear layers of a part, the output embedding left out."""
    return [name for name in linear_modules(model) if part == "all" or name.startswith(_DECODER)]


def hear(
    listener: Listener, utterances: Sequence[Utterance], part: Part = "decoder"
) -> Iterator[SpeechExample]:
    """What the model is given while that part of it learns, a few clips at a time."""
    for some in in_batches(utterances, _ENCODE_AT_ONCE):
        features = listener.features(some)
        states = features if part == "all" else listener.encode(features)
        yield from map(SpeechExample, some, states)


def in_batches(utterances: Sequence[Utterance], size: int) -> Iterator[Sequence[Utterance]]:
    """All of them, in order."""
    for begin in range(0, len(utterances), size):
        yield utterances[begin : begin + size]


def _read(
    config: SpeechTrainConfig, listener: Listener, heard: Heard
) -> AdapterData[SpeechExample]:
    clips = read_clips(config.data_path, config.audio_root)
    limits = AudioLimits(max_duration_s=listener.max_duration_s)
    parts = split_clips(clips, config.heldout_fraction, config.recipe.seed)
    learned, heldout = (read_utterances(part, limits) for part in parts)
    examples: list[SpeechExample] = []
    for utterances in (learned, heldout):
        for example in hear(listener, utterances, config.part):
            examples.append(example)
            heard(len(examples), len(clips))
    name = config.out_dir.resolve().name
    return AdapterData(name, examples[: len(learned)], examples[len(learned) :])
