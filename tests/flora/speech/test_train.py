"""Training a tiny Whisper: the loss falls, and the saved adapter is the trained one."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel

import flora.peft  # noqa: F401  # PEFT knows the method by it
from contracts.errors import InvalidRequest
from flora.adapter_config import AdapterLimits
from flora.adapter_files import read_adapter, tensor_name
from flora.codec import spread_shared_b
from flora.linear import linear_modules
from flora.recipe import Recipe
from flora.shared_inputs import find_shared_inputs
from flora.speech.listener import Listener
from flora.speech.train import Part, SpeechTrainConfig, part_modules, train_speech
from flora.stacked_trainer import TrainStep
from tests.flora.speech.models import make_whisper, make_whisper_dir
from tests.flora.speech.parts import write_table

LIMITS = AdapterLimits()
RECIPE = Recipe(
    max_steps=5, batch_size=3, learning_rate=0.03, num_warmup_steps=2, checkpoint_steps=0
)
WORDS = ["aaa", "bbb", "abab", "ba", "aab", "bba"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper_dir(tmp_path_factory.mktemp("whisper"))


@pytest.mark.parametrize(("part", "names"), [("decoder", ("one", "two")), ("all", ("one",))])
def test_the_loss_falls_and_a_run_is_a_function_of_its_seed(
    folder: Path, tmp_path: Path, part: Part, names: tuple[str, ...]
) -> None:
    table = write_table(tmp_path, WORDS)
    made, losses = [], []
    for name in names:
        steps: list[TrainStep] = []
        out = tmp_path / name
        config = SpeechTrainConfig(
            folder, table, tmp_path, out, part=part, heldout_fraction=0.4, recipe=RECIPE
        )
        report = train_speech(config, steps.append)
        losses.append([step.loss for step in steps])
        weights = (out / "adapter_model.safetensors").read_bytes()
        made.append(read_adapter(weights, (out / "adapter_config.json").read_bytes(), LIMITS))
    assert losses[0] == losses[-1]
    assert losses[0][-1] < 0.8 * losses[0][0]
    assert report.heldout_loss_after < report.heldout_loss_before
    assert report.num_bytes == len(weights)
    touches_encoder = any(".encoder." in name for name in made[0].tensors)
    assert touches_encoder == (part == "all")


def test_peft_loads_what_was_trained(folder: Path, tmp_path: Path) -> None:
    """Names of siblings do not tell self-attention from the other: PEFT has to try the model."""
    out = tmp_path / "out"
    table = write_table(tmp_path, WORDS)
    train_speech(SpeechTrainConfig(folder, table, tmp_path, out, recipe=RECIPE), lambda step: None)
    weights = (out / "adapter_model.safetensors").read_bytes()
    config = (out / "adapter_config.json").read_bytes()
    tensors = spread_shared_b(read_adapter(weights, config, LIMITS))
    merged = PeftModel.from_pretrained(Listener(folder).fresh_model(), str(out)).merge_and_unload()
    plain = Listener(folder).fresh_model()
    for name in part_modules(plain, "decoder"):
        a, b = (torch.from_numpy(tensors[tensor_name(name, side)]).reshape(-1) for side in "AB")
        weight = plain.get_submodule(name).weight * torch.outer(1 + a, 1 + b)
        torch.testing.assert_close(merged.get_submodule(name).weight, weight)


def test_each_clip_that_is_heard_is_told(folder: Path, tmp_path: Path) -> None:
    table = write_table(tmp_path, WORDS)
    config = SpeechTrainConfig(folder, table, tmp_path, tmp_path / "out", recipe=RECIPE)
    told: list[tuple[int, int]] = []
    train_speech(config, lambda step: None, heard=lambda *numbers: told.append(numbers))
    assert told == [(number, len(WORDS)) for number in range(1, len(WORDS) + 1)]


def test_what_reads_the_encoder_shares_no_input_with_the_decoder() -> None:
    model = make_whisper()
    sets = find_shared_inputs(model)
    leaves = {tuple(name.rpartition("layers.0.")[2] for name in names) for names in sets}
    own, cross = "self_attn", "encoder_attn"
    assert (f"{own}.k_proj", f"{own}.v_proj", f"{own}.q_proj") in leaves
    assert (f"{cross}.k_proj", f"{cross}.v_proj") in leaves
    assert (f"{cross}.q_proj",) in leaves
    assert sorted(name for names in sets for name in names) == sorted(linear_modules(model))
    assert all("proj_out" not in name for names in sets for name in names)


def test_parts_and_bounds() -> None:
    model = make_whisper()
    decoder, everything = part_modules(model, "decoder"), part_modules(model, "all")
    assert len(decoder) == 2 * 10
    assert len(everything) == 2 * 10 + 2 * 6
    assert torch.nn.Linear in {type(model.get_submodule(name)) for name in decoder}
    for bad in ({"part": "ears"}, {"rank": 0}, {"heldout_fraction": 1.0}):
        with pytest.raises(InvalidRequest):
            SpeechTrainConfig(Path(), Path(), Path(), Path(), **bad)
