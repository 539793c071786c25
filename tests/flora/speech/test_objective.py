"""The loss of a clip is that of transformers, alone and in a batch."""

import pytest
import torch

from flora.speech.data import Utterance
from flora.speech.listener import Listener
from flora.speech.objective import SpeechExample, SpeechObjective
from flora.speech.train import Part, hear
from tests.flora.speech.models import make_noise, make_whisper_dir

UTTERANCES = [Utterance(make_noise(0), "ru", "ab c"), Utterance(make_noise(1), "en", "defgh i")]


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Listener:
    return Listener(make_whisper_dir(tmp_path_factory.mktemp("whisper")))


def reference(listener: Listener, utterance: Utterance) -> float:
    prompt = list(listener.vocabulary.prompt(utterance.language))
    label = listener.label_ids(utterance.transcript)
    out = listener.model(
        input_features=listener.features([utterance]),
        decoder_input_ids=torch.tensor([prompt + label[:-1]]),
        labels=torch.tensor([[-100] * (len(prompt) - 1) + label]),
    )
    return float(len(label) * out.loss)


@pytest.mark.parametrize("part", ["decoder", "all"])
def test_a_batch_has_the_losses_of_its_clips(listener: Listener, part: Part) -> None:
    objective = SpeechObjective(listener)
    examples: list[SpeechExample] = list(hear(listener, UTTERANCES, part))
    assert examples[0].heard.shape == ((16, 100) if part == "all" else (50, 128))
    with torch.no_grad():
        found = objective.loss_sums(listener.model, examples)
        wanted = [reference(listener, each) for each in UTTERANCES]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert [objective.num_targets(each) for each in examples] == [6, 9]
    assert [objective.num_tokens(each) for each in examples] == [9, 12]
