"""What PEFT saves is what the server reads, and what `flora train` writes is what PEFT loads."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import (
    PeftModel,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from safetensors.torch import load_file, save_file

from flora.adapter_config import AdapterLimits
from flora.adapter_files import AdapterFiles, read_adapter, write_adapter
from flora.base_model import fingerprint
from flora.codec import compile_adapter, decompile
from flora.linear import materialized
from flora.peft import FloraConfig
from flora.stacked_adapters import StackedAdapters
from tests.flora.models import llama_layout, make_model, make_model_dir
from tests.flora.peft.tuned import logits, make_tuned, train_steps

Q, K = (f"base_model.model.model.layers.0.self_attn.{leaf}_proj" for leaf in "qk")
LIMITS = AdapterLimits()


def read(folder: Path) -> AdapterFiles:
    weights = (folder / "adapter_model.safetensors").read_bytes()
    return read_adapter(weights, (folder / "adapter_config.json").read_bytes(), LIMITS)


def served(files: AdapterFiles) -> torch.Tensor:
    """Logits of the base model with the adapter, through the row of an engine."""
    layout = llama_layout()
    row = compile_adapter(layout, files, LIMITS).blob
    return logits(materialized(make_model(), decompile(layout, row)))


def loaded(folder: Path, **options: Any) -> Any:
    return PeftModel.from_pretrained(make_model(), folder, **options).eval()


@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("tie_inputs", [True, False])
@pytest.mark.parametrize("parametrization", ["deviation", "value"])
def test_a_server_takes_what_peft_saves(
    tmp_path: Path, rank: int, tie_inputs: bool, parametrization: str
) -> None:
    tuned = make_tuned(r=rank, tie_inputs=tie_inputs, parametrization=parametrization)
    train_steps(tuned, num_steps=1)
    tuned.save_pretrained(tmp_path)
    files = read(tmp_path)
    assert (f"{K}.flora_B" in files.tensors) != tie_inputs
    assert files.config.tie_inputs == tie_inputs
    torch.testing.assert_close(served(files), logits(tuned), rtol=1e-4, atol=1e-5)
    again = loaded(tmp_path)
    torch.testing.assert_close(logits(again), logits(tuned), rtol=1e-4, atol=1e-5)
    assert sum(".flora_B" in n for n, _ in again.named_parameters()) == 2 * (4 if tie_inputs else 7)


@pytest.mark.parametrize("tie_inputs", [True, False])
@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
def test_peft_loads_what_the_trainer_writes(
    tmp_path: Path, tie_inputs: bool, low_cpu_mem_usage: bool
) -> None:
    model = make_model()
    stack = StackedAdapters(model, 1, 2, (), tie_inputs, seed=3)
    with torch.no_grad():
        for parameter in stack.parameters.values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    weights, config = write_adapter(stack.to_files(0, "", ""), "float32")
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    (tmp_path / "adapter_config.json").write_bytes(config)
    tuned = loaded(tmp_path, low_cpu_mem_usage=low_cpu_mem_usage, is_trainable=True)
    stack.select([0, 0, 0])
    torch.testing.assert_close(logits(tuned), logits(model), rtol=1e-4, atol=1e-5)
    assert sum(".flora_B" in n for n, _ in tuned.named_parameters()) == 2 * (4 if tie_inputs else 7)
    train_steps(tuned, num_steps=1)
    assert tuned.get_submodule(K).flora_B["default"].grad is not None
    tuned.save_pretrained(tmp_path / "again")
    assert read(tmp_path / "again").tensors.keys() == read(tmp_path).tensors.keys()


def test_a_set_without_its_first_module_is_saved_once(tmp_path: Path) -> None:
    tuned = make_tuned(target_modules=["k_proj", "v_proj"])
    tuned.save_pretrained(tmp_path)
    files = read(tmp_path)
    assert f"{K}.flora_B" in files.tensors
    assert len(files.tensors) == 2 * 3
    torch.testing.assert_close(served(files), logits(tuned), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(loaded(tmp_path)), logits(tuned))


def test_what_is_left_out_at_rank_1_is_the_identity(tmp_path: Path) -> None:
    tuned = make_tuned()
    tuned.save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    kept = {name: t for name, t in tensors.items() if name.endswith("o_proj.flora_A")}
    save_file(kept, path)
    torch.testing.assert_close(
        logits(loaded(tmp_path)), served(read(tmp_path)), rtol=1e-4, atol=1e-5
    )


def test_a_file_that_contradicts_its_ties_is_refused(tmp_path: Path) -> None:
    make_tuned().save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {f"{K}.flora_B": tensors[f"{Q}.flora_B"] + 1}, path)
    with pytest.raises(ValueError, match="holds different tensors"):
        loaded(tmp_path)


def test_names_in_two_sets_are_saved_in_full(tmp_path: Path) -> None:
    tuned = make_tuned()
    tuned.peft_config["default"].shared_inputs = [["q_proj", "k_proj", "v_proj"], ["k_proj"]]
    tuned.save_pretrained(tmp_path)
    assert {f"{Q}.flora_B", f"{K}.flora_B"} <= read(tmp_path).tensors.keys()
    torch.testing.assert_close(logits(loaded(tmp_path)), logits(tuned))


def test_the_base_model_is_named_by_its_weights(tmp_path: Path) -> None:
    folder = make_model_dir(tmp_path / "tiny")
    model = type(make_model()).from_pretrained(folder)
    tuned = make_tuned()
    tuned.save_pretrained(tmp_path / "unknown")
    assert read(tmp_path / "unknown").config.base_fingerprint == ""
    shutil.copytree(tmp_path / "unknown", tmp_path / "other")
    PeftModel.from_pretrained(model, tmp_path / "unknown").save_pretrained(tmp_path / "known")
    assert read(tmp_path / "known").config.base_fingerprint == fingerprint(folder)
    config = tmp_path / "other" / "adapter_config.json"
    config.write_text(
        config.read_text().replace('"base_fingerprint": ""', '"base_fingerprint": "abc"')
    )
    with pytest.warns(UserWarning, match="made for base model abc, this one is"):
        PeftModel.from_pretrained(type(model).from_pretrained(folder), tmp_path / "other")


@pytest.mark.parametrize("low_cpu_mem_usage", [True, False])
def test_a_state_dict_without_a_peft_model(low_cpu_mem_usage: bool) -> None:
    torch.manual_seed(4)
    first = inject_adapter_in_model(FloraConfig(r=2, init_weights=False), make_model())
    state = get_peft_model_state_dict(first)
    assert len(state) == 2 * (7 + 4)
    second = inject_adapter_in_model(
        FloraConfig(r=2), make_model(), low_cpu_mem_usage=low_cpu_mem_usage
    )
    set_peft_model_state_dict(second, state, low_cpu_mem_usage=low_cpu_mem_usage)
    torch.testing.assert_close(logits(second), logits(first))
    assert sum(".flora_B" in n for n, _ in second.named_parameters()) == 2 * 4
