"""What a LoRA's config may say, and what of it is refused with its reason."""

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.lora_config import LoraConfig
from tests.flora.adapters import LIMITS
from tests.flora.hostile_files import json_values
from tests.flora.loras import CONFIG, make_config

MODULE = "model.layers.3.self_attn.q_proj"


def read(**changes: Any) -> LoraConfig:
    return LoraConfig.from_json(make_config(**changes), LIMITS)


@pytest.mark.parametrize(
    ("changes", "rank", "scaling"),
    [
        ({}, 2, 2.0),
        ({"lora_alpha": 3.0}, 2, 1.5),
        ({"use_rslora": True}, 2, 4 / math.sqrt(2)),
        ({"rank_pattern": {"q_proj": 8}}, 8, 0.5),
        ({"rank_pattern": {"self_attn.q_proj": 8, "q_proj": 4}}, 8, 0.5),
        ({"rank_pattern": {"proj": 8, "k_proj": 8, "^q_proj": 8}}, 2, 2.0),
        ({"rank_pattern": {MODULE: 8}, "alpha_pattern": {f"^{MODULE}": 16}}, 8, 2.0),
        ({"alpha_pattern": {"q_proj": 1}, "use_rslora": True}, 2, 1 / math.sqrt(2)),
        ({"rank_pattern": None, "alpha_pattern": {}, "fan_in_fan_out": True}, 2, 2.0),
        ({"init_lora_weights": "gaussian", "bias": "none", "modules_to_save": None}, 2, 2.0),
    ],
)
def test_rank_and_scaling_of_a_module(changes: dict[str, Any], rank: int, scaling: float) -> None:
    config = read(**changes)
    assert config.rank_of(MODULE) == rank
    assert config.scaling_of(MODULE) == pytest.approx(scaling)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"use_dora": True}, "use_dora is True: DoRA"),
        ({"lora_bias": True}, "lora_bias"),
        ({"bias": "all"}, "trained biases"),
        ({"bias": None}, "trained biases"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"trainable_token_indices": [1]}, "embeddings"),
        ({"layer_replication": [[0, 2]]}, "layers"),
        ({"alora_invocation_tokens": [5]}, "aLoRA"),
        ({"target_parameters": ["mlp.experts"]}, "linear modules"),
        ({"use_qalora": True}, "QALoRA"),
        ({"init_lora_weights": "pissa_niter_4"}, "path_initial_model_for_weight_conversion"),
        ({"init_lora_weights": None}, "init_lora_weights"),
        ({"init_lora_weights": ["gaussian"]}, "init_lora_weights"),
        ({"use_rslora": "yes"}, "use_rslora must be true or false"),
        ({"lora_alpha": None}, "lora_alpha must be a positive number"),
        ({"lora_alpha": float("nan")}, "lora_alpha must be a positive number"),
        ({"lora_alpha": 1e300}, "lora_alpha must be a positive number"),
        ({"lora_alpha": True}, "lora_alpha must be a positive number"),
        ({"r": "8"}, "r must be a positive number"),
        ({"r": 2.5}, "r must be between"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern must map"),
        ({"rank_pattern": {"q_proj": -1}}, "q_proj must be a positive number"),
        ({"alpha_pattern": {"(a+)+$": 1}}, "whole module names"),
        ({"alpha_pattern": {r".*q_proj": 1}}, "whole module names"),
        ({"alpha_pattern": {"": 1}}, "whole module names"),
    ],
)
def test_what_is_no_plain_lora_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidAdapter, match=re.escape(message)) as caught:
        read(**changes)
    assert len(str(caught.value)) < 500


def test_ranks_beyond_the_limit_are_refused() -> None:
    with pytest.raises(AdapterTooLarge, match="r must be between 1 and 64"):
        read(r=65)


@given(st.sampled_from(sorted(CONFIG)) | st.text(max_size=8), json_values())
def test_any_change_is_a_config_or_refused(name: str, value: Any) -> None:
    found = outcome(CONFIG | {name: value})
    assert str(found) if isinstance(found, InvalidAdapter) else 0 < found.scaling_of(MODULE) < 1e7


def outcome(config: dict[str, Any]) -> LoraConfig | InvalidAdapter:
    try:
        return LoraConfig.from_json(json.dumps(config).encode(), LIMITS)
    except InvalidAdapter as error:
        return error
