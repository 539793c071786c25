"""Imported adapters against PEFT's own models, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import HiraConfig, IA3Config, LoraConfig, PeftConfig
from safetensors.numpy import load_file, save_file

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits
from flora.adapter_files import AdapterFiles, read_adapter, write_adapter
from flora.codec import compile_adapter, decompile
from flora.importers.base_modules import BaseModules
from flora.importers.importer import import_adapter, import_folder
from flora.layout import AdapterLayout, Group, Member
from flora.linear import materialized
from tests.flora.adapters import LIMITS
from tests.flora.importers.sources import biased_model, changed_most, opened, trained
from tests.flora.models import llama_layout, make_model_dir
from tests.flora.peft.tuned import logits

EXACT: list[tuple[str, PeftConfig]] = [
    (
        "llama",
        IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
    ),
    ("llama", IA3Config(target_modules=["gate_proj", "up_proj"], feedforward_modules=["up_proj"])),
    ("llama", HiraConfig(r=3, target_modules="all-linear")),
    ("llama", HiraConfig(r=2, target_modules=["q_proj", "o_proj"], rank_pattern={"o_proj": 1})),
    (
        "gpt2",
        IA3Config(
            target_modules=["c_proj", "c_fc"],
            feedforward_modules=["c_proj", "c_fc"],
            fan_in_fan_out=True,
        ),
    ),
    ("gpt2", HiraConfig(r=2, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)),
]


def gpt2_layout() -> AdapterLayout:
    sizes = BaseModules.of(biased_model("gpt2")).sizes
    groups = (Group(n, s.in_features, (Member(n, s.out_features),)) for n, s in sizes.items())
    return AdapterLayout("", "float32", 4, tuple(groups))


def served(kind: str, files: AdapterFiles) -> torch.Tensor:
    """Logits through our files, and through the row of an engine."""
    files = read_adapter(*write_adapter(files, "float32"), LIMITS)
    layout = llama_layout() if kind == "llama" else gpt2_layout()
    row = compile_adapter(layout, files, LIMITS).blob
    return logits(materialized(biased_model(kind), decompile(layout, row)))


def imported(kind: str, folder: Path, limits: AdapterLimits = LIMITS) -> AdapterFiles:
    return import_adapter(opened(folder), BaseModules.of(biased_model(kind)), "tiny", "", limits)


def rewrite(folder: Path, **changes: Any) -> None:
    """The config again, with other fields."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(("kind", "config"), EXACT)
def test_an_imported_adapter_is_the_adapter(kind: str, config: PeftConfig, tmp_path: Path) -> None:
    model = trained(kind, config, tmp_path)
    assert changed_most(model) > 0.01
    found = served(kind, imported(kind, tmp_path))
    torch.testing.assert_close(found, logits(model), rtol=1e-5, atol=1e-5)


def test_ia3_is_of_rank_1_and_hira_of_one_more(tmp_path: Path) -> None:
    trained("llama", IA3Config(target_modules=["k_proj"], feedforward_modules=[]), tmp_path / "a")
    files = imported("llama", tmp_path / "a")
    assert files.config.rank == 1
    assert {name.rpartition(".")[2] for name in files.tensors} == {"flora_A"}
    trained("llama", HiraConfig(r=2, target_modules=["k_proj"]), tmp_path / "b")
    assert imported("llama", tmp_path / "b").config.rank == 3
    with pytest.raises(AdapterTooLarge, match="of rank 3, at most 2"):
        imported("llama", tmp_path / "b", AdapterLimits(max_rank=2))


def test_a_bias_that_ia3_scales_is_refused(tmp_path: Path) -> None:
    config = IA3Config(target_modules=["c_attn"], feedforward_modules=[], fan_in_fan_out=True)
    trained("gpt2", config, tmp_path)
    with pytest.raises(InvalidAdapter, match=r"h\.0\.attn\.c_attn has a bias, which IA3 scales"):
        imported("gpt2", tmp_path)


def test_a_folder_is_ready_to_publish(tmp_path: Path) -> None:
    base, out = make_model_dir(tmp_path / "tiny"), tmp_path / "out"
    trained("llama", HiraConfig(r=2, target_modules=["k_proj"]), tmp_path / "hira")
    report = import_folder(opened(tmp_path / "hira"), base, out, "bfloat16", LIMITS)
    assert (report.method, report.num_modules, report.rank) == ("HiRA", 2, 3)
    weights = (out / "adapter_model.safetensors").read_bytes()
    files = read_adapter(weights, (out / "adapter_config.json").read_bytes(), LIMITS)
    assert files.config.base_model_name_or_path == "tiny"
    assert len(files.config.base_fingerprint) == 25
    assert report.num_bytes == len(weights)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "LORA", "use_dora": True}, "DoRA cannot be imported"),
        ({"peft_type": "LORA"}, "`flora convert`.*serves LoRA as it is"),
        ({"peft_type": "OFT"}, "OFT cannot be imported: it rotates"),
        ({"peft_type": "PROMPT_TUNING"}, "it adds trained tokens"),
        ({"peft_type": "LOHA"}, "LOHA cannot be imported: it adds to the weight"),
        ({"peft_type": "LN_TUNING"}, "something else than the scale"),
        ({"peft_type": "NEW"}, "'NEW' is not known"),
        ({"peft_type": ["IA3"]}, "is not known"),
        ({"modules_to_save": ["lm_head"]}, "modules trained in full"),
        ({"bias": "all"}, "holds no biases"),
        ({"trainable_token_indices": [1]}, "scales linear layers alone"),
        ({"peft_type": "HIRA"}, "none of a HiRA adapter's"),
    ],
)
def test_what_has_no_such_form_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    trained("llama", IA3Config(target_modules=["k_proj"], feedforward_modules=[]), tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(InvalidAdapter, match=message):
        imported("llama", tmp_path)


def test_lora_as_peft_saves_it(tmp_path: Path) -> None:
    trained("llama", LoraConfig(target_modules=["k_proj"]), tmp_path)
    with pytest.raises(InvalidAdapter, match="LoRA cannot be imported"):
        imported("llama", tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("base_model.model.model.embed_tokens.hira_embedding_A", (1, 258), "no embeddings"),
        ("base_model.model.model.layers.0.conv.hira_A", (1, 2, 3), "no convolutions"),
        ("base_model.model.vision.model.layers.0.mlp.up_proj.hira_A", (1, 32), "is no linear"),
        (
            "base_model.model.model.layers.0.mlp.down_proj.hira_A",
            (2, 63),
            r"\[2, 63\], not \[2, 64\]",
        ),
        ("base_model.model.lm_head.weight", (2, 2), "none of a HiRA adapter's"),
        ("base_model.model.model.layers.0.mlp.up_proj.hira_A", (1, 32), "needs hira_A and hira_B"),
        ("model.layers.0.mlp.down_proj.hira_A.default", (2, 64), "holds two adapters"),
    ],
)
def test_tensors_that_do_not_belong(
    name: str, shape: tuple[int, ...], message: str, tmp_path: Path
) -> None:
    trained("llama", HiraConfig(r=2, target_modules=["down_proj"]), tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file(load_file(path) | {name: np.ones(shape, np.float32)}, path)
    with pytest.raises(InvalidAdapter, match=message):
        imported("llama", tmp_path)


def test_an_untrained_adapter_changes_nothing(tmp_path: Path) -> None:
    trained("llama", IA3Config(target_modules=["k_proj"], feedforward_modules=[]), tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    save_file({name: np.ones_like(tensor) for name, tensor in load_file(path).items()}, path)
    with pytest.raises(InvalidAdapter, match="changes nothing"):
        imported("llama", tmp_path)
