"""A Whisper model in plain transformers: hears, trains, and is the oracle of what is served."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    DynamicCache,
    EncoderDecoderCache,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
)

from contracts.errors import InvalidRequest
from flora.speech.audio import SAMPLE_RATE_HZ, from_pcm
from flora.speech.data import Utterance
from flora.speech.vocabulary import SpeechVocabulary, suppressed_tokens


class Listener:
    """The model of a folder, in float32. Whoever trains it wraps layers of `model`."""

    def __init__(self, model_dir: Path) -> None:
        self._folder = model_dir
        self.tokenizer: Any = AutoTokenizer.from_pretrained(model_dir)
        vocabulary = SpeechVocabulary.of(self.tokenizer, suppressed_tokens(model_dir))
        if vocabulary is None:
            raise InvalidRequest(f"{model_dir.name} is no Whisper model", "model")
        self.vocabulary = vocabulary
        self._extractor: Any = WhisperFeatureExtractor.from_pretrained(model_dir)
        self.model: Any = self.fresh_model()

    def fresh_model(self) -> Any:
        """The model as it is in the folder."""
        try:
            model: Any = WhisperForConditionalGeneration.from_pretrained(
                self._folder, dtype=torch.float32
            )
        except (OSError, ValueError) as error:
            raise InvalidRequest(
                f"{self._folder} holds no Whisper model: {error}", "model"
            ) from error
        return model.eval()

    @property
    def max_duration_s(self) -> float:
        """The longest clip that it hears as a whole."""
        return float(self._extractor.chunk_length)

    def features(self, utterances: Sequence[Utterance]) -> torch.Tensor:
        """Log-mel frames, float32 [clips, mels, frames], padded with silence."""
        found: torch.Tensor = self._extractor(
            [from_pcm(utterance.pcm) for utterance in utterances],
            sampling_rate=SAMPLE_RATE_HZ,
            return_tensors="pt",
        ).input_features
        return found

    @torch.no_grad()
    def encode(self, features: torch.Tensor) -> torch.Tensor:
        """The encoder's states, [clips, positions, width]."""
        states: torch.Tensor = self.model.model.encoder(features).last_hidden_state
        return states

    def label_ids(self, transcript: str) -> list[int]:
        """What the decoder is to write after the prompt."""
        token_ids = self.tokenizer(f" {transcript.strip()}", add_special_tokens=False)["input_ids"]
        return [*token_ids, self.vocabulary.end]

    @torch.no_grad()
    def transcribe(
        self, states: torch.Tensor, language: str, max_tokens: int | None = None
    ) -> list[str]:
        """Greedy transcripts of the encoder's `states`, of at most `max_tokens` each, None for half
        of the model's places, as a server gives, and no more than it has places for.
        """
        prompt = self.vocabulary.prompt(language)
        num_places = self.model.config.max_target_positions
        max_tokens = min(max_tokens or num_places // 2, num_places - len(prompt))
        end = self.vocabulary.end
        ids = torch.tensor([prompt] * len(states))
        suppressed = torch.tensor(self.vocabulary.suppressed, dtype=torch.long)
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        written: list[torch.Tensor] = []
        is_over = torch.zeros(len(states), dtype=torch.bool)
        while len(written) < max_tokens and not is_over.all():
            out = self.model.model.decoder(
                input_ids=ids, encoder_hidden_states=states, past_key_values=cache, use_cache=True
            )
            logits = self.model.proj_out(out.last_hidden_state[:, -1])
            logits[:, suppressed] = -torch.inf
            if not written:
                logits[:, end] = -torch.inf
            best = logits.argmax(-1).masked_fill(is_over, end)
            is_over |= best == end
            written.append(best)
            ids = best[:, None]
        return [
            str(self.tokenizer.decode(row, skip_special_tokens=True)).strip()
            for row in torch.stack(written, 1).tolist()
        ]
