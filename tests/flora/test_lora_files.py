"""Whatever is uploaded as a LoRA is one, or a clear refusal."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import CallerError, InvalidAdapter
from flora.lora_files import LoraFiles, lora_tensor_name, read_lora
from flora.tensor_file import TensorFile
from tests.flora.adapters import LIMITS, pack
from tests.flora.hostile_files import entries, json_values
from tests.flora.layouts import make_layout
from tests.flora.loras import make_config, make_factors, make_lora_layout, make_weights

FACTORS = make_factors(make_lora_layout(make_layout()))
GOOD = make_weights(FACTORS)
NAME = lora_tensor_name("qkv.0", "A")
ENTRY = {"dtype": "F32", "shape": [2, 8], "data_offsets": [0, 64]}


def read(weights: bytes, **changes: Any) -> LoraFiles:
    return read_lora(TensorFile.read(weights, LIMITS), make_config(**changes), LIMITS)


def test_a_good_one_is_read_as_it_is() -> None:
    files = read(GOOD)
    assert files.modules.keys() == FACTORS.keys()
    for name, (a, b) in FACTORS.items():
        np.testing.assert_array_equal(files.modules[name][0], a)
        np.testing.assert_array_equal(files.modules[name][1], b)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("qkv.0.lora_A.weight", "the name must be base_model.model.<module>.lora_A.weight"),
        (NAME.replace("lora_A", "flora_A"), "the name must be"),
        ("base_model.model.x.lora_embedding_A", "embeddings"),
        ("base_model.model.x.lora_magnitude_vector.weight", "DoRA"),
        ("base_model.model.x.lora_B.bias", "biases"),
        ("base_model.model.lm_head.modules_to_save.weight", "whole modules"),
        (NAME, "qkv.0.lora_B.weight' is missing"),
    ],
)
def test_other_tensors_are_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(InvalidAdapter, match=message):
        read(pack({name: ENTRY}, bytes(64)))


def test_ranks_must_be_those_of_the_config() -> None:
    with pytest.raises(InvalidAdapter, match="its config says 4"):
        read(GOOD, r=4)
    with pytest.raises(InvalidAdapter, match=r"'qkv.1' has lora_A of rank 2 .* config says 8"):
        read(GOOD, rank_pattern={"qkv.1": 8})
    a, b = FACTORS["qkv.0"]
    with pytest.raises(InvalidAdapter, match="lora_A of rank 2 and lora_B of rank 1"):
        read(make_weights({"qkv.0": (a, b[:, :1])}))


def test_numbers_out_of_bounds_are_refused() -> None:
    a, b = FACTORS["qkv.0"]
    for bad in (np.nan, np.inf, 2e4):
        with pytest.raises(InvalidAdapter, match=r"lora_A.weight' holds"):
            read(make_weights({"qkv.0": (np.full_like(a, bad), b)}))


@given(
    st.dictionaries(st.sampled_from([NAME, NAME.replace("_A", "_B"), "x"]), entries(), max_size=3),
    st.binary(max_size=200),
    st.dictionaries(st.sampled_from(["r", "lora_alpha", "rank_pattern"]), json_values()),
)
def test_any_file_is_a_lora_or_refused(
    header: dict[str, Any], body: bytes, changes: dict[str, Any]
) -> None:
    found = outcome(pack(json.dumps(header).encode(), body), **changes)
    assert 0 < len(str(found)) < 1000 if isinstance(found, CallerError) else found.modules


def outcome(weights: bytes, **changes: Any) -> LoraFiles | CallerError:
    try:
        return read(weights, **changes)
    except CallerError as error:
        return error
