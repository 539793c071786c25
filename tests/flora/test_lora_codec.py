"""A LoRA's row against the formula and against what PEFT computes from the same files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.pytorch_utils import Conv1D

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits
from flora.codec import CompiledAdapter
from flora.layout import AdapterLayout, Group, Member
from flora.linear import linear_features, linear_modules
from flora.lora_codec import compile_lora, decompile_lora
from flora.lora_files import read_lora
from flora.lora_layout import LoraLayout
from flora.tensor_file import TensorFile
from tests.flora.adapters import LIMITS
from tests.flora.layouts import make_layout
from tests.flora.loras import (
    make_config,
    make_factors,
    make_lora_layout,
    make_weights,
    trained_by_peft,
)
from tests.flora.models import llama_layout, make_model

LAYOUT = make_lora_layout(make_layout())
FACTORS = make_factors(LAYOUT)


def compile_files(
    layout: LoraLayout, weights: bytes, config: bytes, limits: AdapterLimits = LIMITS
) -> CompiledAdapter:
    return compile_lora(layout, read_lora(TensorFile.read(weights, limits), config, limits), limits)


def module_layout(model: Any) -> LoraLayout:
    """Every linear module a group of its own."""
    sizes = {name: linear_features(module) for name, module in linear_modules(model).items()}
    groups = tuple(Group(name, i, (Member(name, o),)) for name, (i, o) in sizes.items())
    return LoraLayout(AdapterLayout("tiny-0", "float32", 8, groups))


def test_the_row_holds_scaled_factors() -> None:
    compiled = compile_files(LAYOUT, make_weights(FACTORS), make_config(lora_alpha=3))
    assert (compiled.rank, compiled.num_modules) == (2, 3)
    found = decompile_lora(LAYOUT, compiled.blob)
    for name, (a, b) in FACTORS.items():
        np.testing.assert_array_equal(found[name][0], a)
        np.testing.assert_allclose(found[name][1], b * 1.5, rtol=1e-6)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("llama", {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}),
        (
            "llama",
            {
                "r": 4,
                "target_modules": ["q_proj", "v_proj", "down_proj"],
                "use_rslora": True,
                "rank_pattern": {"v_proj": 2, "layers.1.self_attn.q_proj": 8},
                "alpha_pattern": {"down_proj": 3},
            },
        ),
        ("gpt2", {"r": 2, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    ],
)
def test_peft_computes_the_same(tmp_path: Path, kind: str, options: dict[str, Any]) -> None:
    base = make_model(kind)
    layout = make_lora_layout(llama_layout()) if kind == "llama" else module_layout(base)
    tuned, weights, config = trained_by_peft(make_model(kind), tmp_path, **options)
    compiled = compile_files(layout, weights, config)
    for name, (a, b) in decompile_lora(layout, compiled.blob).items():
        module = base.get_submodule(name)
        delta = torch.from_numpy(b @ a)
        module.weight.data += delta.T if isinstance(module, Conv1D) else delta
    ids = torch.arange(1, 40).reshape(3, 13)
    with torch.inference_mode():
        torch.testing.assert_close(base(ids).logits, tuned(ids).logits, rtol=1e-4, atol=1e-5)
        with tuned.disable_adapter():
            assert not torch.allclose(base(ids).logits, tuned(ids).logits, atol=1e-2)


def test_what_the_base_model_cannot_take_is_refused() -> None:
    a, b = FACTORS["qkv.0"]
    for factors, message in (
        ({"model.lm_head": (a, b)}, "embeddings or the head"),
        ({"qkv.9": (a, b)}, "is not one this base model can adapt"),
        ({"qkv.1": (a, b)}, r"lora_A \[2, 8\] and lora_B \[8, 2\], but it reads 8 and gives 4"),
        ({"qkv.0": (a, b * 0)}, "changes nothing"),
    ):
        with pytest.raises(InvalidAdapter, match=message):
            compile_files(LAYOUT, make_weights(factors), make_config())


def test_limits() -> None:
    weights = make_weights(make_factors(LAYOUT, rank=9))
    with pytest.raises(AdapterTooLarge, match="rank 9; this server takes at most 8"):
        compile_files(LAYOUT, weights, make_config(r=9))
    limits = AdapterLimits(max_row_bytes=100)
    with pytest.raises(AdapterTooLarge, match="compiles to"):
        compile_files(LAYOUT, make_weights(FACTORS), make_config(), limits)


def test_numbers_that_do_not_fit_are_refused() -> None:
    short = LoraLayout(AdapterLayout("tiny-0", "float16", 8, LAYOUT.base.groups))
    a, b = FACTORS["qkv.0"]
    weights = make_weights({"qkv.0": (a, np.full_like(b, 9000))})
    with pytest.raises(InvalidAdapter, match="does not fit float16"):
        compile_files(short, weights, make_config(lora_alpha=100))
