"""CTranslate2's model file: written here by its format, read back."""

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from app.ctranslate2_file import read_variables
from contracts.errors import InvalidRequest

IDS = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def text(value: str) -> bytes:
    return struct.pack("<H", len(value) + 1) + value.encode() + b"\0"


def write(variables: dict[str, NDArray[Any]], aliases: dict[str, str]) -> bytes:
    parts = [struct.pack("<I", 6), text("WhisperSpec"), struct.pack("<II", 3, len(variables))]
    for name, value in variables.items():
        parts += [text(name), struct.pack("<B", value.ndim)]
        parts += [struct.pack("<I", size) for size in value.shape]
        parts += [struct.pack("<BI", IDS[str(value.dtype)], value.nbytes), value.tobytes()]
    parts.append(struct.pack("<I", len(aliases)))
    parts += [text(alias) + text(name) for alias, name in aliases.items()]
    return b"".join(parts)


@given(
    st.dictionaries(
        st.text("abc/_1", min_size=1, max_size=8),
        st.tuples(st.sampled_from(list(IDS)), st.lists(st.integers(0, 4), max_size=3)),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_is_read(shapes: dict[str, tuple[str, list[int]]]) -> None:
    rng = np.random.default_rng(0)
    variables = {
        name: rng.integers(0, 100, shape).astype(dtype) for name, (dtype, shape) in shapes.items()
    }
    first = next(iter(variables))
    found = read_variables(write(variables, {"alias!": first}))
    assert set(found) == {*variables, "alias!"}
    for name, value in variables.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_array_equal(found[name], value)
    np.testing.assert_array_equal(found["alias!"], variables[first])


@pytest.mark.parametrize("cut", [0, 3, 20, 45])
def test_half_a_file_is_refused(cut: int) -> None:
    whole = write({"a": np.ones((2, 3), np.float32)}, {})
    with pytest.raises(InvalidRequest, match="CTranslate2"):
        read_variables(whole[:cut])


def test_another_version_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="version 5"):
        read_variables(struct.pack("<I", 5) + bytes(100))
