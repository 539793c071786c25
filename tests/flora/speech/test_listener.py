"""The plain Whisper: its loss and transcripts are those of transformers."""

from pathlib import Path

import pytest
import torch

from contracts.errors import InvalidRequest
from flora.speech.data import Utterance
from flora.speech.listener import Listener
from tests.flora.models import make_model_dir
from tests.flora.speech.models import SUPPRESSED, make_noise, make_whisper_dir

UTTERANCES = [Utterance(make_noise(0), "ru", "ab c"), Utterance(make_noise(1), "en", "defgh i")]


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Listener:
    return Listener(make_whisper_dir(tmp_path_factory.mktemp("whisper")))


def test_features_and_states(listener: Listener) -> None:
    features = listener.features(UTTERANCES)
    assert features.shape == (2, 16, 100)
    assert listener.encode(features).shape == (2, 50, 128)
    assert listener.max_duration_s == 1.0


def test_a_transcript_is_the_greedy_one_without_a_cache(listener: Listener) -> None:
    features = listener.features(UTTERANCES)
    ids = torch.tensor([listener.vocabulary.prompt("ru")] * 2)
    written = []
    with torch.no_grad():
        for step in range(6):
            logits = listener.model(input_features=features, decoder_input_ids=ids).logits[:, -1]
            logits[:, list(SUPPRESSED)] = -torch.inf
            if step == 0:
                logits[:, listener.vocabulary.end] = -torch.inf
            best = logits.argmax(-1, keepdim=True)
            written.append(best)
            ids = torch.cat([ids, best], 1)
    wanted = [
        listener.tokenizer.decode(row, skip_special_tokens=True).strip()
        for row in torch.cat(written, 1).tolist()
    ]
    assert listener.transcribe(listener.encode(features), "ru", 6) == wanted


def test_a_text_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no Whisper model"):
        Listener(make_model_dir(tmp_path / "tiny"))
