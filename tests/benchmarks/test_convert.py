import json
from pathlib import Path

import pytest
import torch

from benchmarks.convert import (
    TARGETS,
    LoraPupil,
    Sizes,
    label_loss,
    labelled,
    train,
    verdict_of,
    with_gains,
)
from flora.convert.dialogues import Dialogue
from flora.eval.adapted_weights import adapted_weights
from tests.flora.models import make_model, make_tokenizer


def test_a_pupil_learns_and_is_saved_as_it_is(tmp_path: Path) -> None:
    model = make_model().requires_grad_(False)
    path = tmp_path / "demo.jsonl"
    turns = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "bbbb"}]
    path.write_text("\n".join([json.dumps({"messages": turns})] * 4))
    dialogues = labelled(path, make_tokenizer())
    pupil = LoraPupil(model)
    assert all(name.endswith(TARGETS) for name in pupil.weights())
    before = label_loss(model, {}, dialogues).item()
    assert label_loss(model, pupil.weights(), dialogues).item() == pytest.approx(before, rel=1e-5)
    train(model, pupil.numbers, pupil.weights, dialogues, 8, 1e-2)
    assert label_loss(model, pupil.weights(), dialogues).item() < before - 0.1
    pupil.save(tmp_path)
    saved = adapted_weights(model, tmp_path)
    for name, weight in pupil.weights().items():
        torch.testing.assert_close(saved[name], weight)


def test_the_loss_is_of_the_answers_tokens() -> None:
    dialogues = [Dialogue((1, 2, 3, 4, 5), 2), Dialogue((9, 8, 7), 2)]
    model = make_model()
    losses = [label_loss(model, {}, [dialogue]).item() for dialogue in dialogues]
    counts = [len(d.token_ids) - d.num_given for d in dialogues]
    mean = sum(a * n for a, n in zip(losses, counts, strict=True)) / sum(counts)
    assert label_loss(model, {}, dialogues).item() == pytest.approx(mean, rel=1e-4)


def test_gains_are_shares_of_the_loras() -> None:
    figures = {"base_loss": 3.0, "lora_loss": 1.0, "r1_loss": 2.0, "scratch_r1_loss": 1.5}
    found = with_gains(figures)
    assert found["r1_gain_share"] == 0.5
    assert found["scratch_r1_gain_share"] == 0.75
    shares = {"r1_share": 0.4, "r1_start_share": 0.2}
    text = verdict_of({"pirate": found | shares}, Sizes(("pirate",), (1,)))
    assert "rank 1: 0.40 of the LoRA's effect (0.20 by the closed form), 0.50 of its gain" in text
