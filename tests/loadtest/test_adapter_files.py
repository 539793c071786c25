from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flora.adapter_files import read_adapter, write_adapter
from flora.codec import compile_adapter
from flora.layout import AdapterLayout, Group, Member
from loadtest.adapter_files import AdapterFiles, read_folders
from tests.flora.adapters import LIMITS, make_adapter, pack

DEMO = Path(__file__).parents[2] / "flora" / "demo" / "adapters"
NUMBERS = st.integers(0, (1 << 20) - 1)


def demo() -> AdapterFiles:
    return read_folders(DEMO / "pirate")[0]


@settings(max_examples=10)
@given(NUMBERS)
def test_a_variant_is_finite_and_differs_in_one_tensor(number: int) -> None:
    files = demo()
    changed = files.variant(number)
    before = read_adapter(files.weights, files.config, LIMITS).tensors
    after = read_adapter(changed.weights, changed.config, LIMITS).tensors
    differing = [name for name in before if not np.array_equal(before[name], after[name])]
    assert len(differing) == (number > 0)
    assert all(name.endswith("flora_A") for name in differing)
    assert all(np.isfinite(tensor).all() for tensor in after.values())


@settings(max_examples=20)
@given(NUMBERS, NUMBERS)
def test_every_number_has_bytes_of_its_own(one: int, other: int) -> None:
    files = demo()
    assert (files.variant(one) == files.variant(other)) == (one == other)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_variants_are_different_rows_too(dtype: str) -> None:
    layout = AdapterLayout("base", "bfloat16", 4, (Group("g", 32, (Member("g.linear", 32),)),))
    wide = make_adapter(layout)
    files = AdapterFiles(*reversed(write_adapter(wide, dtype)))
    rows = set()
    for number in range(6):
        changed = files.variant(number)
        adapter = read_adapter(changed.weights, changed.config, LIMITS)
        rows.add(compile_adapter(layout, adapter, LIMITS).blob)
    assert len(rows) == 6


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        (b"", "no safetensors"),
        (b"hello, this is no adapter at all", "no safetensors"),
        (pack({}), "no tensor has"),
        (pack({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}), "no tensor has"),
        (pack({"x": {"dtype": "I64", "shape": [90], "data_offsets": [0, 720]}}), "no tensor has"),
    ],
)
def test_what_cannot_be_varied_is_refused(weights: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        AdapterFiles(b"{}", weights).variant(1)


def test_numbers_have_bounds() -> None:
    with pytest.raises(ValueError, match="numbered"):
        demo().variant(1 << 20)


def test_a_folder_of_folders_is_all_of_them(tmp_path: Path) -> None:
    assert len(read_folders(DEMO)) == 4
    with pytest.raises(ValueError, match="holds no adapter"):
        read_folders(tmp_path)
