"""What is compared is comparable: same clips, same layers, same steps; and it is told."""

import pytest
import torch

from benchmarks.record import Spread
from benchmarks.speech import show, verdict
from benchmarks.speech_methods import METHODS
from benchmarks.speech_runs import SpeechRuns
from flora.recipe import Recipe
from flora.speech.train import part_modules
from tests.flora.speech.models import make_whisper, make_whisper_dir
from tests.flora.speech.parts import write_table

WORDS = ["aaa", "bbb", "abab", "ba", "aab", "bba", "bb", "a", "ab", "b"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SpeechRuns:
    folder = make_whisper_dir(tmp_path_factory.mktemp("whisper"))
    clips = tmp_path_factory.mktemp("clips")
    return SpeechRuns(folder, write_table(clips, WORDS), clips, 0)


def test_the_parts_share_no_sentence(runs: SpeechRuns) -> None:
    parts = (runs.learned, runs.validation, runs.heldout)
    said = [{each.utterance.transcript for each in part} for part in parts]
    assert set().union(*said) == set(WORDS)
    assert sum(map(len, said)) == len(WORDS)


def test_an_adapter_is_trained_and_judged(runs: SpeechRuns) -> None:
    rates = (1e-9, 0.02)
    recipes = [Recipe(max_steps=4, learning_rate=rate, num_warmup_steps=1) for rate in rates]
    before, after = (runs.train("flora_r1", recipe) for recipe in recipes)
    assert after.validation_loss < before.validation_loss
    assert before.word_error_rate == runs.base_error_rate()
    assert after.train_s > 0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_on_the_same_layers(method: str) -> None:
    model = make_whisper()
    modules = part_modules(model, "decoder")
    learning = METHODS[method](model, modules, 0)
    learned = {name for name, p in model.named_parameters() if p.requires_grad}
    mine = {id(p) for p in model.parameters() if p.requires_grad}
    assert {id(p) for p in learning.parameters} == mine
    assert learning.num_parameters == sum(p.numel() for p in learning.parameters)
    for module in modules:
        assert any(name.startswith(f"{module}.") for name in learned)
    assert all(name.startswith("model.decoder.") for name in learned)


def test_a_method_begins_at_the_base_model() -> None:
    frames, ids = torch.zeros(1, 16, 100), torch.tensor([[3, 4]])
    with torch.no_grad():
        wanted = make_whisper()(input_features=frames, decoder_input_ids=ids).logits
        for adapt in METHODS.values():
            model = make_whisper()
            adapt(model, part_modules(model, "decoder"), 0).select(1)
            found = model(input_features=frames, decoder_input_ids=ids).logits
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_what_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = {
        "base_wer": 0.45,
        "ia3_wer": 0.3,
        "ia3_parameters": 1000.0,
        "ia3_learning_rate": 0.01,
    }
    assert verdict(metrics, ["ia3"]) == (
        "held-out word error rate 0.450 without an adapter; ia3 0.300 (1,000 parameters)"
    )
    show(metrics, {"ia3_wer": Spread(0.2, 0.3, 0.4, 3)}, ["ia3"])
    assert "0.450" in capsys.readouterr().out
