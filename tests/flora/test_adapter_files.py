"""Reading uploads: round trips, and every hostile file ends in InvalidAdapter."""

import io
import json
import pickle
import zipfile
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.errors import AdapterTooLarge, InvalidAdapter
from flora.adapter_config import AdapterLimits
from flora.adapter_files import read_adapter, tensor_name, write_adapter
from flora.codec import compile_adapter
from flora.tensor_file import METADATA_KEY
from tests.flora.adapters import LIMITS, adapters, make_adapter, make_bytes, pack
from tests.flora.layouts import layouts, make_layout

NAME = tensor_name("qkv.0", "A")
CONFIG = {"peft_type": "FLORA", "r": 1, "parametrization": "deviation"}
GOOD = {"dtype": "F32", "shape": [1, 8], "data_offsets": [0, 32]}
BODY = np.full(8, 0.5, "<f4").tobytes()


def read(weights: bytes, config: Any = CONFIG, limits: AdapterLimits = LIMITS) -> None:
    text = config if isinstance(config, bytes) else json.dumps(config).encode()
    compile_adapter(make_layout(), read_adapter(weights, text, limits), limits)


def mutate(data: st.DataObject, blob: bytes) -> bytes:
    begin = data.draw(st.integers(0, min(len(blob), 700)))
    end = begin + data.draw(st.integers(0, 3))
    return blob[:begin] + data.draw(st.binary(max_size=3)) + blob[end:]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    return buffer.getvalue()


@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    files = data.draw(adapters(data.draw(layouts())))
    one_file = data.draw(st.booleans())
    weights, config = write_adapter(files, "float32", one_file=one_file)
    again = read_adapter(weights, None if one_file else config, LIMITS)
    assert again.config == files.config
    assert again.tensors.keys() == files.tensors.keys()
    for name, tensor in files.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], tensor)


@pytest.mark.parametrize(("dtype", "precision"), [("bfloat16", 2.0**-8), ("float16", 2.0**-10)])
def test_short_dtypes(dtype: str, precision: float) -> None:
    files = make_adapter(make_layout())
    again = read_adapter(*write_adapter(files, dtype), LIMITS)
    for name, tensor in files.tensors.items():
        np.testing.assert_allclose(again.tensors[name], tensor, rtol=precision)


def test_a_minimal_hand_made_file_is_good() -> None:
    read(pack({NAME: GOOD}, BODY))
    read(pack(json.dumps({NAME: GOOD}).encode() + b"   ", BODY))
    read(pack({NAME: GOOD, "__metadata__": {"format": "pt"}}, BODY))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (b"", "not a safetensors file"),
        (b"\x02", "cut off"),
        (zipped(), "zip file"),
        (pickle.dumps({"a": [1, 2]}), "pickle file"),
        (pickle.dumps({"a": "b"}, protocol=0), "not a safetensors file"),
        (b'{"a": 1}', "bare JSON"),
        (b"GGUF" + bytes(60), "GGUF"),
        (pack({NAME: GOOD}, BODY)[:-1], "the file has 31"),
        (pack({NAME: GOOD}, BODY)[:40], "cut off"),
        (pack({NAME: GOOD}, BODY, length=2**63), "cut off"),
        (pack({NAME: GOOD}, BODY, length=2**64 - 1), "cut off"),
        (pack({NAME: GOOD}, BODY + b"x"), "the file has 33"),
        (pack(b"{garbage"), "not valid JSON"),
        (pack(b'{"\xff": 1}'), "not valid JSON"),
        (pack(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), "not valid JSON"),
        (pack(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), "not valid JSON"),
        (pack(b'{"a":' + b"1" * 5000 + b"}"), "not valid JSON"),
        (pack(b"{}"), "0 tensors"),
        (pack(b"{} {}"), "not valid JSON"),
        (pack({"__metadata__": []}), "__metadata__"),
        (pack({"__metadata__": {"a": 1}}), "__metadata__"),
        (pack({"weight": GOOD}, BODY), "the name must be"),
        (pack({NAME + "\n": GOOD}, BODY), "the name must be"),
        (pack({tensor_name("\ud800", "A"): GOOD}, BODY), "is not one"),
        (pack({NAME: 3}, BODY), "needs dtype"),
        (pack({NAME: {"dtype": "F32"}}, BODY), "needs dtype"),
        (pack({NAME: GOOD | {"dtype": "I64"}}, BODY), "dtype must be F32"),
        (pack({NAME: GOOD | {"dtype": ["F32"]}}, BODY), "dtype must be F32"),
        (pack({NAME: GOOD | {"dtype": "F16"}}, BODY), "do not hold shape"),
        (pack({NAME: GOOD | {"shape": [8]}}, BODY), "two numbers"),
        (pack({NAME: GOOD | {"shape": [0, 8], "data_offsets": [0, 0]}}), "the rank is"),
        (pack({NAME: GOOD | {"shape": [8, 1]}}, BODY), r"\[8, 1\], not \[1, 8\]"),
        (pack({NAME: GOOD | {"shape": [2**62, 2**62]}}, BODY), "the rank is"),
        (pack({NAME: GOOD | {"shape": [1, 2**62]}}, BODY), "do not hold"),
        (pack({NAME: GOOD | {"shape": [1.0, 8]}}, BODY), "non-negative integers"),
        (pack({NAME: GOOD | {"shape": [True, 8]}}, BODY), "non-negative integers"),
        (pack({NAME: GOOD | {"shape": [-1, -8]}}, BODY), "non-negative integers"),
        (pack({NAME: GOOD | {"data_offsets": [32, 0]}}, BODY), "do not hold"),
        (pack({NAME: GOOD | {"data_offsets": [4, 36]}}, BODY), "no gap"),
        (pack({NAME: GOOD | {"data_offsets": [2**70, 2**70 + 32]}}, BODY), "no gap"),
        (pack({NAME: GOOD, tensor_name("qkv.0", "B"): GOOD}, BODY), "no overlap"),
        (
            pack(json.dumps({NAME: GOOD})[:-1].encode() + f', "{NAME}": {{}}}}'.encode(), BODY),
            "twice",
        ),
        (pack({NAME: GOOD}, np.full(8, np.nan, "<f4").tobytes()), "NaN"),
        (pack({NAME: GOOD}, np.full(8, -np.inf, "<f4").tobytes()), "infinity"),
        (pack({NAME: GOOD | {"dtype": "BF16", "data_offsets": [0, 16]}}, b"\x80\x7f" * 8), "NaN"),
        (pack({NAME: GOOD}, np.full(8, -1e18, "<f4").tobytes()), r"holds 1e\+18; at most 10000"),
        (pack({NAME: GOOD}, bytes(32)), "changes nothing"),
    ],
)
def test_hostile_weights(weights: bytes, message: str) -> None:
    with pytest.raises(InvalidAdapter, match=message) as caught:
        read(weights)
    assert len(str(caught.value)) < 500
    assert str(caught.value).isascii()


def test_limits() -> None:
    weights = pack({NAME: GOOD}, BODY)
    for limits, message in (
        (AdapterLimits(max_file_bytes=10), "at most 10 are"),
        (AdapterLimits(max_header_bytes=10), "header has"),
        (AdapterLimits(max_config_bytes=10), "adapter_config.json has"),
    ):
        with pytest.raises(AdapterTooLarge, match=message):
            read(weights, limits=limits)
    more = {"data_offsets": [32, 64]}
    two = pack({NAME: GOOD, tensor_name("qkv.0", "B"): GOOD | more}, BODY * 2)
    with pytest.raises(AdapterTooLarge, match="2 tensors"):
        read(two, limits=AdapterLimits(max_tensors=1))
    with pytest.raises(AdapterTooLarge):
        AdapterLimits(max_rank=0)


def test_a_missing_config_is_refused() -> None:
    with pytest.raises(InvalidAdapter, match="no adapter_config"):
        read_adapter(pack({NAME: GOOD}, BODY), None, LIMITS)
    hostile = {NAME: GOOD, "__metadata__": {METADATA_KEY: "\ud800"}}
    with pytest.raises(InvalidAdapter, match="not valid JSON"):
        read_adapter(pack(hostile, BODY), None, LIMITS)


@given(st.binary(max_size=200), st.binary(max_size=60))
@example(b"\x02\0\0\0\0\0\0\0{}", b"{}")
def test_random_bytes(weights: bytes, config: bytes) -> None:
    for arguments in ((weights, CONFIG), (pack({NAME: GOOD}, BODY), config)):
        with pytest.raises(InvalidAdapter):
            read(*arguments)


@given(st.data())
def test_mutations_of_a_good_file(data: st.DataObject) -> None:
    weights, config = make_bytes(data.draw(st.sampled_from(["float32", "bfloat16"])))
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):
            weights = mutate(data, weights)
        else:
            config = mutate(data, config)
    with suppress(InvalidAdapter):
        read(weights, config)
