"""Tiny LoRAs: one that has a fLoRA form is kept whole, one that has none is said to be poor."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from contracts.errors import InvalidAdapter, InvalidRequest
from flora.base_model import fingerprint
from flora.convert.conversion import Conversion, ConvertConfig, write_folder
from flora.convert.dialogues import collate
from flora.convert.distil import DistilConfig, faithfulness, logits
from flora.convert.student import Student
from flora.eval.adapted_weights import adapted_weights
from tests.flora.convert.loras import random_lora, representable_lora, save_lora
from tests.flora.models import make_model_dir

NO_STEPS = DistilConfig(num_steps=0)
SIZES: dict[str, Any] = {"num_prompts": 24, "prompt_tokens": 16, "answer_tokens": 12}


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_dir(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def poor(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    lora = random_lora(tmp_path_factory.mktemp("lora"))
    return Conversion(ConvertConfig(model_dir, lora, num_sweeps=2, **SIZES))


def test_a_lora_that_has_the_form_is_kept_whole(model_dir: Path, tmp_path: Path) -> None:
    config = ConvertConfig(model_dir, representable_lora(tmp_path / "lora"), **SIZES)
    conversion = Conversion(config)
    files, kept = conversion.derive(1, NO_STEPS, print)
    assert kept.share == kept.start_share > 0.99
    assert kept.agreement > 0.95 > kept.base_agreement
    assert not kept.is_poor
    write_folder(files, tmp_path / "out")
    written = adapted_weights(conversion.model, tmp_path / "out", fingerprint(model_dir))
    found = faithfulness(
        conversion.model, conversion.teacher, {"written": written}, conversion.heldout, 4
    )
    assert 1 - found["written"].divergence / kept.base_divergence > 0.99


def test_distillation_and_rank_keep_more(poor: Conversion) -> None:
    steps: list[float] = []
    distilling = DistilConfig(num_steps=20, learning_rate=2e-2)
    _, one = poor.derive(1, distilling, lambda *step: steps.append(step[2]))
    _, four = poor.derive(4, NO_STEPS, print)
    assert len(steps) == 20
    assert sum(steps[-5:]) < 0.9 * sum(steps[:5])
    assert one.start_share < one.share < 1
    assert four.start_share > one.start_share


def test_steps_that_lead_away_from_the_lora_are_taken_back(poor: Conversion) -> None:
    plain, start = poor.derive(2, NO_STEPS, print)
    spoilt, kept = poor.derive(2, DistilConfig(num_steps=4, learning_rate=10.0), lambda *step: None)
    assert kept == start
    assert all((plain.tensors[name] == spoilt.tensors[name]).all() for name in plain.tensors)


def test_no_pair_starts_with_a_small_input(poor: Conversion) -> None:
    student = poor.start(4)
    for b in student._b.values():
        sizes = b[1:].square().mean(dim=1).sqrt()
        assert ((sizes - 1).abs().lt(1e-5) | (sizes == 0)).all()


def test_equal_seeds_make_equal_adapters(poor: Conversion) -> None:
    distilling = DistilConfig(num_steps=3)
    first, again = (poor.derive(2, distilling, lambda *step: None)[0] for _ in range(2))
    assert all((first.tensors[name] == again.tensors[name]).all() for name in first.tensors)
    again_built = Conversion(poor.config)
    assert again_built.learned == poor.learned
    other = Conversion(replace(poor.config, seed=1))
    assert other.learned != poor.learned


def test_a_fresh_student_is_the_base_model(poor: Conversion) -> None:
    student = Student(poor.model, list(poor.teacher), 3)
    batch = collate(poor.heldout)
    with torch.no_grad():
        plain = logits(poor.model, {}, batch)
        torch.testing.assert_close(logits(poor.model, student.weights(), batch), plain)
    assert len(plain) == int(batch.is_compared.sum())


def test_what_cannot_be_converted_is_refused(model_dir: Path, tmp_path: Path) -> None:
    head = save_lora(tmp_path / "head", {"lm_head": (torch.ones(1, 32), torch.ones(258, 1))})
    with pytest.raises(InvalidAdapter, match="no fLoRA form for lm_head"):
        Conversion(ConvertConfig(model_dir, head, **SIZES))
    name = "model.layers.0.self_attn.q_proj"
    nothing = save_lora(tmp_path / "none", {name: (torch.ones(1, 32), torch.zeros(32, 1))})
    with pytest.raises(InvalidRequest, match="answers as its base model does"):
        Conversion(ConvertConfig(model_dir, nothing, **SIZES)).derive(1, NO_STEPS, print)
    with pytest.raises(InvalidRequest, match="num_prompts is at least 2"):
        ConvertConfig(model_dir, head, num_prompts=1)
    with pytest.raises(InvalidRequest, match="learning_rate"):
        DistilConfig(learning_rate=0)
