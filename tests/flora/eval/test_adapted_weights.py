"""LoRA and IA3 as PEFT applies them, fLoRA as the codec's oracle does."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from contracts.errors import AdapterTooLarge, InvalidAdapter, WrongBaseModel
from flora.adapter_config import AdapterLimits
from flora.adapter_files import write_adapter
from flora.codec import compile_adapter, decompile
from flora.eval.adapted_weights import adapted_weights, swapped
from flora.eval.lora import read_lora
from flora.eval.peft_folder import read_folder
from flora.linear import materialized
from tests.flora.adapters import LIMITS, make_adapter
from tests.flora.eval.peft_folders import IDS, ia3_config, lora_config, save_random
from tests.flora.models import llama_layout, make_model


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("llama", lora_config()),
        ("llama", lora_config(use_rslora=True, target_modules=["q_proj", "v_proj"])),
        ("llama", lora_config(rank_pattern={"q_proj": 2}, alpha_pattern={"down_proj": 16})),
        ("gpt2", lora_config(target_modules=["c_attn", "c_fc"], fan_in_fan_out=True)),
        ("llama", ia3_config()),
        ("gpt2", ia3_config(target_modules=["c_attn"], feedforward_modules=[])),
    ],
    ids=["lora", "rslora", "patterns", "conv1d", "ia3", "ia3-conv1d"],
)
def test_weights_are_those_of_peft(kind: str, config: Any, tmp_path: Path) -> None:
    expected = save_random(config, tmp_path, kind)
    model = make_model(kind)
    plain = logits(model)
    with swapped(model, adapted_weights(model, tmp_path)):
        torch.testing.assert_close(logits(model), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(logits(model), plain)
    assert not torch.allclose(plain, expected, atol=0.02)


def test_flora_weights_are_those_of_the_codec(tmp_path: Path) -> None:
    layout = llama_layout()
    files = make_adapter(layout, rank=2)
    weights, config = write_adapter(files, "float32")
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    (tmp_path / "adapter_config.json").write_bytes(config)
    oracle = materialized(
        make_model(), decompile(layout, compile_adapter(layout, files, LIMITS).blob)
    )
    model = make_model()
    with swapped(model, adapted_weights(model, tmp_path)):
        torch.testing.assert_close(logits(model), logits(oracle), rtol=1e-4, atol=1e-4)


def test_another_base_model_is_refused(tmp_path: Path) -> None:
    files = make_adapter(llama_layout(fingerprint="abc-def"))
    weights, config = write_adapter(files, "float32")
    (tmp_path / "adapter_model.safetensors").write_bytes(weights)
    (tmp_path / "adapter_config.json").write_bytes(config)
    with pytest.raises(WrongBaseModel):
        adapted_weights(make_model(), tmp_path, "abc-123")


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    save_random(lora_config(target_modules=["q_proj"]), tmp_path)
    return tmp_path


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora is True: DoRA"),
        ({"bias": "all"}, "trained biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"init_lora_weights": "pissa"}, "changed the base model's weights"),
        ({"peft_type": "OFT"}, "peft_type is 'OFT'; FLORA, LORA and IA3"),
        ({"r": 8}, "has ranks"),
        ({"r": "8"}, "r must be a positive number"),
        ({"lora_alpha": -1}, "lora_alpha must be a positive number"),
        ({"rank_pattern": {"(a+)+$": 2}}, "whole module names"),
        ({"use_qalora": True}, "QALoRA"),
        ({"rank_pattern": [1]}, "rank_pattern must map"),
    ],
)
def test_other_methods_are_refused(lora: Path, changes: dict[str, Any], message: str) -> None:
    edit(lora, **changes)
    with pytest.raises(InvalidAdapter, match=message.replace("(", r"\(")):
        adapted_weights(make_model(), lora)


def test_hostile_tensors_are_refused(lora: Path) -> None:
    path = lora / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(iter(tensors))
    bad = {
        "NaN or an infinity": {name: torch.full_like(tensors[name], float("nan"))},
        "is not a lora_A": {"base_model.model.x.lora_C.weight": torch.ones(2, 2)},
        "dtype I64": {name: torch.ones(4, 32, dtype=torch.int64)},
        "other sizes": {
            n: torch.ones(t.shape[0] + (t.shape[1] == 4), t.shape[1]) for n, t in tensors.items()
        },
        "no linear layer": {n.replace("layers", "stories"): t for n, t in tensors.items()},
    }
    for message, changes in bad.items():
        kept = {} if "stories" in str(changes.keys()) else tensors
        save_file(kept | changes, path)
        with pytest.raises(InvalidAdapter, match=message):
            adapted_weights(make_model(), lora)


def test_other_formats_and_sizes_are_refused(lora: Path) -> None:
    tight = AdapterLimits(max_file_bytes=100)
    with pytest.raises(AdapterTooLarge, match="at most 100"):
        read_folder(lora, tight)
    with pytest.raises(AdapterTooLarge, match="between 1 and 2, not 4"):
        read_lora(read_folder(lora), AdapterLimits(max_rank=2))
    (lora / "adapter_model.safetensors").write_bytes(b"PK\x03\x04 a pickle in a zip file")
    with pytest.raises(InvalidAdapter, match="not a safetensors file"):
        read_folder(lora)
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    with pytest.raises(InvalidAdapter, match="has to be saved as safetensors"):
        read_folder(lora)
