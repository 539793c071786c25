import json
from pathlib import Path

import pytest
from transformers import AutoConfig, GPTBigCodeConfig, LlamaConfig

from benchmarks.paper_models import MODELS


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("starcoder-15b", 15.5),
        ("starcoder-3b", 3.04),
        ("starcoder-1b", 1.14),
        ("llama2-13b", 13.0),
        ("llama2-7b", 6.74),
        ("llama3-8b", 8.03),
    ],
)
def test_a_model_has_as_many_parameters_as_its_publisher_says(name: str, billions: float) -> None:
    assert MODELS[name].num_parameters == pytest.approx(billions * 1e9, rel=0.005)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("is_cut", [True, False])
def test_a_folder_is_read_as_the_model_that_was_meant(
    tmp_path: Path, name: str, is_cut: bool
) -> None:
    model = MODELS[name].cut() if is_cut else MODELS[name]
    config = AutoConfig.from_pretrained(model.write(tmp_path))
    assert isinstance(config, GPTBigCodeConfig | LlamaConfig)
    assert config.num_hidden_layers == model.num_layers
    assert config.hidden_size // config.num_attention_heads == model.head == 128
    assert config.num_key_value_heads == model.num_kv_heads
    assert model.modules().keys() == MODELS[name].modules().keys()


def test_two_parts_are_the_whole_in_every_split_width() -> None:
    whole = MODELS["llama3-8b"]
    part = whole.part(2)
    assert 2 * part.num_products == whole.num_products
    assert part.modules()["mlp.down_proj"] == (14336 // 2, 4096)
    assert part.config()["head_dim"] == whole.head
    with pytest.raises(ValueError, match="no equal parts"):
        MODELS["starcoder-1b"].part(2)
    with pytest.raises(ValueError, match="no equal parts"):
        whole.part(3)


def test_only_an_8_bit_model_says_how_it_is_quantised(tmp_path: Path) -> None:
    model = MODELS["llama3-8b"].cut()
    for numbers, expected in (("bfloat16", False), ("int8", True), ("fp8", False)):
        folder = model.write(tmp_path / numbers, numbers)  # type: ignore[arg-type]
        config = json.loads((folder / "config.json").read_text())
        assert ("quantization_config" in config) is expected
