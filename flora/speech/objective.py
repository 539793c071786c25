"""What a Whisper model learns from a clip: its transcript. The trainer's seam for speech."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from flora.speech.data import Utterance
from flora.speech.listener import Listener

_IGNORED = -100


@dataclass(frozen=True, slots=True, eq=False)
class SpeechExample:
    """An utterance beside what the model is given of it: log-mel frames [mels, frames], or the
    states [positions, width] of an encoder that does not learn.
    """

    utterance: Utterance
    heard: torch.Tensor


class SpeechObjective:
    """An `Objective` for the model of a `Listener`: the next token of the transcript and its end,
    told the language and that no timestamps are wanted.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def num_tokens(self, example: SpeechExample) -> int:
        return len(self._prompt(example)) + self.num_targets(example) - 1

    def num_targets(self, example: SpeechExample) -> int:
        return len(self._listener.label_ids(example.utterance.transcript))

    def loss_sums(self, model: Any, examples: Sequence[SpeechExample]) -> torch.Tensor:
        ids, targets = self._batch(examples)
        heard = torch.stack([example.heard for example in examples])
        states = model.model.decoder(
            input_ids=ids, encoder_hidden_states=encoder_states(model, heard), use_cache=False
        ).last_hidden_state
        chosen = targets != _IGNORED
        # The vocabulary is wide, and the other positions are asked for nothing.
        logits = model.proj_out(states[chosen])
        losses = functional.cross_entropy(logits.float(), targets[chosen], reduction="none")
        return torch.zeros(len(examples)).index_add(0, chosen.nonzero()[:, 0], losses)

    def _batch(self, examples: Sequence[SpeechExample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Decoder inputs and their targets, int64 [examples, tokens]."""
        prompts = [self._prompt(example) for example in examples]
        labels = [self._listener.label_ids(each.utterance.transcript) for each in examples]
        rows = [[*prompt, *label] for prompt, label in zip(prompts, labels, strict=True)]
        ids = torch.zeros(len(rows), max(map(len, rows)) - 1, dtype=torch.long)
        targets = torch.full_like(ids, _IGNORED)
        for i, (prompt, row) in enumerate(zip(prompts, rows, strict=True)):
            ids[i, : len(row) - 1] = torch.tensor(row[:-1])
            targets[i, len(prompt) - 1 : len(row) - 1] = torch.tensor(row[len(prompt) :])
        return ids, targets

    def _prompt(self, example: SpeechExample) -> tuple[int, ...]:
        return self._listener.vocabulary.prompt(example.utterance.language)


def encoder_states(model: Any, heard: torch.Tensor) -> torch.Tensor:
    """[clips, positions, width] of log-mel frames [clips, mels, frames], or of such states."""
    if heard.shape[1] != model.config.num_mel_bins:
        return heard
    states: torch.Tensor = model.model.encoder(heard).last_hidden_state
    return states
