"""adapter_config.json: round trip, PEFT's other fields, and refusals by name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import InvalidAdapter
from flora.adapter_config import AdapterConfig
from tests.flora.adapters import LIMITS

CONFIG = {"peft_type": "FLORA", "r": 1, "parametrization": "deviation"}
NAMES = st.lists(st.text(max_size=5), max_size=3).map(tuple)


def read(config: Any) -> AdapterConfig:
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    return AdapterConfig.from_json(text, LIMITS)


@given(
    st.builds(
        AdapterConfig,
        st.integers(1, LIMITS.max_rank),
        st.sampled_from(["deviation", "value"]),
        st.booleans(),
        NAMES,
        st.text(),
        st.text(),
        st.lists(NAMES, max_size=2).map(tuple),
    )
)
def test_round_trip(config: AdapterConfig) -> None:
    assert AdapterConfig.from_json(config.to_json(), LIMITS) == config


def test_fields_that_others_write_are_ignored() -> None:
    more = {
        "revision": None,
        "inference_mode": True,
        "modules_to_save": None,
        "target_modules": "q",
    }
    assert read(CONFIG | more) == AdapterConfig(1, "deviation", target_modules=("q",))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (b"", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"r": 1, "r": 2}', "twice"),
        (b'{"r": "\\ud800', "not valid JSON"),
        ([], "must be a JSON object"),
        ({}, "peft_type"),
        (CONFIG | {"peft_type": "LORA"}, "peft_type must be"),
        (CONFIG | {"parametrization": "other"}, "parametrization must be"),
        (CONFIG | {"parametrization": ["value"]}, "parametrization must be"),
        (CONFIG | {"r": "1"}, "r must be of type int"),
        (CONFIG | {"r": True}, "r must be of type int"),
        (CONFIG | {"r": 1.0}, "r must be of type int"),
        (CONFIG | {"r": None}, "r must be of type int"),
        (CONFIG | {"r": 0}, "between 1 and 64"),
        (CONFIG | {"r": 10**30}, "between 1 and 64"),
        (CONFIG | {"tie_inputs": 1}, "tie_inputs must be of type bool"),
        (CONFIG | {"target_modules": [1]}, "target_modules"),
        (CONFIG | {"target_modules": {"a": 1}}, "target_modules"),
        (CONFIG | {"shared_inputs": [[1]]}, "shared_inputs"),
        (CONFIG | {"shared_inputs": [["a"] * 17]}, "more than 16"),
        (CONFIG | {"shared_inputs": {"a": 1}}, "shared_inputs"),
        (CONFIG | {"base_model_name_or_path": 3}, "base_model_name_or_path"),
        (CONFIG | {"base_fingerprint": 3}, "base_fingerprint"),
    ],
)
def test_hostile_configs(config: Any, message: str) -> None:
    with pytest.raises(InvalidAdapter, match=message):
        read(config)
