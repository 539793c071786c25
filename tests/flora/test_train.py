"""Training tiny models end to end: the loss falls, and the saved adapter is the trained one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contracts.errors import InvalidRequest
from flora.adapter_config import AdapterLimits
from flora.adapter_files import read_adapter, tensor_name
from flora.base_model import fingerprint
from flora.codec import compile_adapter, decompile
from flora.linear import materialized
from flora.train import TrainConfig, TrainStep, batch_loss, fit, mean_loss, rate, split, train
from flora.train_data import Example, collate
from flora.trainable_adapter import TrainableAdapter
from tests.flora.models import llama_layout, make_model, make_model_dir

LIMITS = AdapterLimits()


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_dir(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    user = [{"role": "user", "content": f"{i}?"} for i in range(20)]
    answer = {"role": "assistant", "content": "aaaa"}
    path.write_text("\n".join(json.dumps({"messages": [u, answer]}) for u in user))
    return path


def make_config(model_dir: Path, data_path: Path, out_dir: Path, **changes: Any) -> TrainConfig:
    config = TrainConfig(model_dir, data_path, out_dir, max_steps=12, batch_size=4)
    return replace(config, num_warmup_steps=2, save_dtype="float32", **changes)


def make_examples() -> list[Example]:
    rng = np.random.default_rng(0)
    rows = [tuple(rng.integers(0, 250, 12).tolist()) for _ in range(8)]
    return [Example(row, (False,) * 4 + (True,) * 8) for row in rows]


def read_folder(folder: Path) -> Any:
    weights = (folder / "adapter_model.safetensors").read_bytes()
    return read_adapter(weights, (folder / "adapter_config.json").read_bytes(), LIMITS)


@pytest.mark.parametrize(("rank", "tie_inputs"), [(1, True), (1, False), (3, True), (2, False)])
def test_a_trained_model_equals_its_compiled_adapter(rank: int, tie_inputs: bool) -> None:
    config = TrainConfig(
        Path(),
        Path(),
        Path(),
        rank,
        tie_inputs,
        max_steps=10,
        num_warmup_steps=1,
        learning_rate=0.03,
    )
    model, examples, steps = make_model(), make_examples(), list[TrainStep]()
    adapter = TrainableAdapter(model, rank, (), tie_inputs, seed=0)
    before = mean_loss(model, examples, 4)
    fit(model, adapter.parameters, examples, config, steps.append, lambda: 0.0)
    assert mean_loss(model, examples, 4) < before - 0.1
    assert [step.step for step in steps] == list(range(1, 11))

    layout = llama_layout()
    compiled = compile_adapter(layout, adapter.to_files("tiny", ""), LIMITS)
    oracle = materialized(make_model(), decompile(layout, compiled.blob))
    ids = collate(examples).input_ids
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        torch.testing.assert_close(oracle(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert compiled.num_modules == 14


def test_train_writes_a_folder_that_compiles(
    model_dir: Path, data_path: Path, tmp_path: Path
) -> None:
    config = make_config(model_dir, data_path, tmp_path / "out")
    report = train(config, lambda step: None)
    assert report.heldout_loss_after < report.heldout_loss_before
    files = read_folder(report.out_dir)
    assert report.num_bytes == (tmp_path / "out/adapter_model.safetensors").stat().st_size
    assert report.num_parameters == sum(tensor.size for tensor in files.tensors.values())
    assert files.config.base_fingerprint == fingerprint(model_dir)
    assert files.config.shared_inputs == (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
    attention = "model.layers.0.self_attn"
    assert tensor_name(f"{attention}.q_proj", "B") in files.tensors
    assert tensor_name(f"{attention}.k_proj", "B") not in files.tensors
    layout = llama_layout("bfloat16", fingerprint=fingerprint(model_dir))
    assert compile_adapter(layout, files, LIMITS).rank == 1
    text = (tmp_path / "out/adapter_config.json").read_text()
    assert str(model_dir.parent) not in text


def test_equal_seeds_make_equal_adapters(model_dir: Path, data_path: Path, tmp_path: Path) -> None:
    config = make_config(model_dir, data_path, tmp_path / "a", rank=2)
    blobs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(replace(config, out_dir=tmp_path / name, seed=seed, max_steps=3), lambda step: None)
        blobs.append((tmp_path / name / "adapter_model.safetensors").read_bytes())
    assert blobs[0] == blobs[1] != blobs[2]


def test_targets_and_short_dtypes(model_dir: Path, data_path: Path, tmp_path: Path) -> None:
    config = make_config(
        model_dir, data_path, tmp_path, compute_dtype="bfloat16", target_modules=("mlp.down_proj",)
    )
    files = read_folder(train(replace(config, save_dtype="bfloat16"), lambda step: None).out_dir)
    assert len(files.tensors) == 4
    assert files.config.target_modules == ("down_proj",)
    assert files.config.shared_inputs == ()
    with pytest.raises(InvalidRequest, match="no linear layer"):
        train(replace(config, target_modules=("nothing",)), lambda step: None)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_bigcode"])
def test_loss_by_chosen_logits_equals_the_whole(kind: str) -> None:
    model, batch = make_model(kind), collate(make_examples())
    with torch.no_grad():
        whole = model(input_ids=batch.input_ids, labels=batch.labels).loss
        torch.testing.assert_close(batch_loss(model, batch), whole)


def test_schedule() -> None:
    config = TrainConfig(Path(), Path(), Path(), max_steps=20, num_warmup_steps=4)
    rates = [rate(step, config) for step in range(21)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[20] == pytest.approx(0)
    constant = replace(config, schedule="constant", num_warmup_steps=0)
    assert {rate(step, constant) for step in range(20)} == {1.0}


def test_split_holds_out_at_least_one() -> None:
    examples = make_examples()
    learned, heldout = split(examples, 0.01, 0)
    assert (len(learned), len(heldout)) == (7, 1)
    assert len(split(examples, 0.99, 0)[0]) == 1
    assert split(examples, 0.3, 0) == split(examples, 0.3, 0)
    silent = Example((1, 2), (True, False))
    with pytest.raises(InvalidRequest, match="fewer than two"):
        split([silent] * 5 + examples[:1], 0.1, 0)


@pytest.mark.parametrize(
    "change", [{"rank": 0}, {"max_length_tokens": 1}, {"heldout_fraction": 1.0}]
)
def test_configs_out_of_range(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        TrainConfig(Path(), Path(), Path(), **change)
