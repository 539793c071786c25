"""Training tiny models end to end: the loss falls, and the saved adapter is the trained one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from contracts.errors import InvalidRequest
from flora.adapter_config import AdapterLimits
from flora.adapter_files import read_adapter, tensor_name
from flora.base_model import fingerprint
from flora.codec import compile_adapter, decompile
from flora.linear import materialized
from flora.recipe import Recipe
from flora.train import CHECKPOINTS, TrainingStopped, TrainReport
from flora.train import train as run
from flora.train_config import TrainConfig
from flora.train_data import collate
from tests.flora.learning import make_data, make_trainer
from tests.flora.models import llama_layout, make_model, make_model_dir

LIMITS = AdapterLimits()
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model_dir(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two tenants: ann's answers are a's, bob's are b's."""
    folder = tmp_path_factory.mktemp("data")
    for name, count in (("ann", 20), ("bob", 12)):
        user = [{"role": "user", "content": f"{i}?"} for i in range(count)]
        answer = {"role": "assistant", "content": name[0] * 4}
        lines = [json.dumps({"messages": [u, answer]}) for u in user]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    return folder


def make_config(model_dir: Path, data: Path, out_dir: Path, **changes: Any) -> TrainConfig:
    recipe = Recipe(max_steps=12, batch_size=4, num_warmup_steps=2)
    recipe = replace(recipe, **changes.pop("recipe", {}))
    return TrainConfig(model_dir, (data,), out_dir, save_dtype="float32", recipe=recipe, **changes)


def train(config: TrainConfig, **options: Any) -> list[TrainReport]:
    return run(config, lambda step: None, **options)


def after(num_steps: int) -> Callable[[], bool]:
    """True when it is asked for the `num_steps`th time."""
    asked = iter(range(1, 1000))
    return lambda: next(asked) == num_steps


def read_folder(folder: Path) -> Any:
    weights = (folder / WEIGHTS).read_bytes()
    return read_adapter(weights, (folder / "adapter_config.json").read_bytes(), LIMITS)


@pytest.mark.parametrize(("rank", "num_adapters"), [(1, 2), (3, 1)])
def test_a_trained_model_equals_its_compiled_adapters(
    tmp_path: Path, rank: int, num_adapters: int
) -> None:
    data = make_data(8, 6)[:num_adapters]
    recipe = Recipe(max_steps=10, num_warmup_steps=1, learning_rate=0.03)
    trainer = make_trainer(tmp_path, data, recipe, rank=rank)
    assert trainer.fit()
    layout = llama_layout()
    for k, each in enumerate(data):
        compiled = compile_adapter(layout, trainer.stack.to_files(k, "tiny", ""), LIMITS)
        oracle = materialized(make_model(), decompile(layout, compiled.blob))
        ids = collate(each.learned).input_ids
        trainer.stack.select([k] * len(ids))
        with torch.no_grad():
            expected = trainer.model(input_ids=ids).logits
            torch.testing.assert_close(oracle(input_ids=ids).logits, expected, rtol=1e-4, atol=1e-4)
        assert compiled.num_modules == 14


def test_train_writes_a_folder_that_compiles(
    model_dir: Path, tenants: Path, tmp_path: Path
) -> None:
    (report,) = train(make_config(model_dir, tenants / "ann.jsonl", tmp_path / "out"))
    assert report.heldout_loss_after < report.heldout_loss_before
    assert (report.name, report.out_dir, report.num_steps) == ("out", tmp_path / "out", 12)
    files = read_folder(report.out_dir)
    assert report.num_bytes == (tmp_path / "out" / WEIGHTS).stat().st_size
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
    assert not (tmp_path / "out" / CHECKPOINTS).exists()


def test_a_folder_of_tenants_is_an_adapter_each(
    model_dir: Path, tenants: Path, tmp_path: Path
) -> None:
    reports = train(make_config(model_dir, tenants, tmp_path / "both"))
    assert [report.out_dir.name for report in reports] == ["ann", "bob"]
    for report in reports:
        alone = make_config(model_dir, tenants / f"{report.name}.jsonl", tmp_path / "alone")
        (one,) = train(alone)
        assert one.heldout_loss_after == pytest.approx(report.heldout_loss_after, rel=1e-3)
        assert one.heldout_loss_before == pytest.approx(report.heldout_loss_before, rel=1e-3)
        mine, other = read_folder(report.out_dir), read_folder(one.out_dir)
        assert mine.config == other.config
        for name, tensor in mine.tensors.items():
            assert tensor == pytest.approx(other.tensors[name], abs=1e-4)


def test_equal_seeds_make_equal_adapters(model_dir: Path, tenants: Path, tmp_path: Path) -> None:
    blobs = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        recipe = {"seed": seed, "max_steps": 3}
        train(make_config(model_dir, tenants / "ann.jsonl", tmp_path / name, rank=2, recipe=recipe))
        blobs.append((tmp_path / name / WEIGHTS).read_bytes())
    assert blobs[0] == blobs[1] != blobs[2]


def test_a_resumed_run_ends_with_the_same_adapters(
    model_dir: Path, tenants: Path, tmp_path: Path
) -> None:
    whole = make_config(model_dir, tenants, tmp_path / "whole")
    train(whole)
    broken = replace(whole, out_dir=tmp_path / "broken")
    with pytest.raises(TrainingStopped, match="after step 5"):
        train(broken, should_stop=after(5))
    assert not (tmp_path / "broken/ann").exists()
    with pytest.raises(InvalidRequest, match="another rank"):
        train(replace(broken, rank=2), resume=True)
    train(broken, resume=True)
    for name in ("ann", "bob"):
        mine, other = (tmp_path / run_name / name / WEIGHTS for run_name in ("whole", "broken"))
        assert mine.read_bytes() == other.read_bytes()
    with pytest.raises(InvalidRequest, match="no checkpoint"):
        train(broken, resume=True)


def test_a_stopped_run_may_begin_anew(model_dir: Path, tenants: Path, tmp_path: Path) -> None:
    config = make_config(model_dir, tenants / "bob.jsonl", tmp_path, recipe={"max_steps": 3})
    with pytest.raises(TrainingStopped):
        train(config, should_stop=after(1))
    (report,) = train(config)
    assert report.num_steps == 3


def test_targets_and_short_dtypes(model_dir: Path, tenants: Path, tmp_path: Path) -> None:
    config = make_config(
        model_dir,
        tenants / "ann.jsonl",
        tmp_path,
        compute_dtype="bfloat16",
        target_modules=("mlp.down_proj",),
    )
    (report,) = train(replace(config, save_dtype="bfloat16"))
    files = read_folder(report.out_dir)
    assert len(files.tensors) == 4
    assert files.config.target_modules == ("down_proj",)
    assert files.config.shared_inputs == ()
    with pytest.raises(InvalidRequest, match="no linear layer"):
        train(replace(config, target_modules=("nothing",)))


def test_what_is_no_model_is_named(tenants: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"no readable config\.json"):
        train(make_config(tmp_path / "none", tenants, tmp_path / "out"))
