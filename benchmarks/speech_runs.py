"""One Whisper model, the clips that it hears, and adapters of any kind trained on them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from torch import nn
from transformers import get_cosine_schedule_with_warmup

from benchmarks.speech_methods import METHODS, Learning
from flora.eval.wer import word_error_rate
from flora.recipe import Recipe
from flora.speech.audio import AudioLimits
from flora.speech.data import read_clips, read_utterances, split_clips
from flora.speech.listener import Listener
from flora.speech.objective import SpeechExample, SpeechObjective
from flora.speech.train import hear, part_modules
from flora.step_plan import StepPlan

HELDOUT_SHARE = 0.2
VALIDATION_SHARE = 0.15
_EVAL_BATCH = 16


@dataclass(frozen=True)
class Run:
    """One trained adapter. `train_s` is the time of its steps alone."""

    validation_loss: float
    word_error_rate: float
    num_parameters: int
    train_s: float


class SpeechRuns:
    """Clips of at most the model's length, all encoded once, in three parts that share no sentence:
    to learn from, to choose the learning rate by, to judge by. `is_quick` takes few of them.
    """

    def __init__(
        self, model: Path, clips: Path, audio_root: Path, seed: int, *, is_quick: bool = False
    ) -> None:
        self.listener = Listener(model)
        self._objective = SpeechObjective(self.listener)
        limits = AudioLimits(max_duration_s=self.listener.max_duration_s)
        fitting = [
            clip
            for clip in read_clips(clips, audio_root)
            if soundfile.info(clip.path).duration <= self.listener.max_duration_s
        ]
        rest, heldout = split_clips(fitting, HELDOUT_SHARE, seed)
        learned, validation = split_clips(rest, VALIDATION_SHARE, seed)
        if is_quick:
            learned, validation, heldout = learned[:48], validation[:8], heldout[:16]
        self.learned, self.validation, self.heldout = (
            list(hear(self.listener, read_utterances(part, limits)))
            for part in (learned, validation, heldout)
        )

    def base_error_rate(self) -> float:
        """Of the held-out clips, without an adapter."""
        return self._error_rate(self.listener.fresh_model(), Learning([]))

    def train(self, method: str, recipe: Recipe) -> Run:
        """One adapter on a fresh model: AdamW, a short warm-up, then a cosine. Raises KeyError."""
        model = self.listener.fresh_model()
        learning = METHODS[method](model, part_modules(model, "decoder"), recipe.seed)
        begin_s = time.perf_counter()
        self._fit(model, learning, recipe)
        train_s = time.perf_counter() - begin_s
        loss = self._validation_loss(model, learning)
        error_rate = self._error_rate(model, learning)
        return Run(loss, error_rate, learning.num_parameters, train_s)

    def _fit(self, model: nn.Module, learning: Learning, recipe: Recipe) -> None:
        plan = StepPlan((len(self.learned),), recipe)
        optimizer = torch.optim.AdamW(
            learning.parameters, lr=recipe.learning_rate, weight_decay=0.0
        )
        schedule = get_cosine_schedule_with_warmup(
            optimizer, recipe.num_warmup_steps, recipe.max_steps
        )
        for step in range(recipe.max_steps):
            batch = [self.learned[i] for i in plan.indices(0, step)]
            torch.autograd.backward(self._loss_sum(model, learning, batch) / self._targets(batch))
            nn.utils.clip_grad_norm_(learning.parameters, recipe.max_gradient_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()

    @torch.no_grad()
    def _validation_loss(self, model: nn.Module, learning: Learning) -> float:
        total = sum(
            self._loss_sum(model, learning, batch).item() for batch in batches(self.validation)
        )
        return total / self._targets(self.validation)

    def _loss_sum(
        self, model: nn.Module, learning: Learning, batch: Sequence[SpeechExample]
    ) -> torch.Tensor:
        learning.select(len(batch))
        return self._objective.loss_sums(model, batch).sum()

    def _targets(self, examples: Sequence[SpeechExample]) -> int:
        return sum(map(self._objective.num_targets, examples))

    def _error_rate(self, model: nn.Module, learning: Learning) -> float:
        self.listener.model = model
        pairs: list[tuple[str, str]] = []
        for batch in batches(self.heldout):
            learning.select(len(batch))
            (language,) = {example.utterance.language for example in batch}
            states = torch.stack([example.heard for example in batch])
            texts = self.listener.transcribe(states, language)
            pairs += zip((each.utterance.transcript for each in batch), texts, strict=True)
        return word_error_rate(pairs)


def batches(examples: Sequence[SpeechExample]) -> Iterator[Sequence[SpeechExample]]:
    """Examples to be judged, in order."""
    for begin in range(0, len(examples), _EVAL_BATCH):
        yield examples[begin : begin + _EVAL_BATCH]
