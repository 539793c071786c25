"""int8 rows: half a step, a scale behind every vector, and refusals."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contracts.errors import AdapterCorrupt, InvalidAdapter
from flora.int8 import dequantise, quantise
from flora.layout import AdapterLayout
from flora.row import Floats, decode_row, encode_row, read_header
from tests.flora.layouts import layouts, make_group, make_layout

Row = tuple[AdapterLayout, list[int], Floats]
LARGE = float(np.float32(3.38e38))


@st.composite
def rows(draw: st.DrawFn) -> Row:
    """Any layout, pairs and numbers, of very different sizes, in padding too."""
    layout = draw(layouts(("int8",)))
    extra = [draw(st.integers(0, layout.max_extra_pairs(g))) for g in range(len(layout.groups))]
    elements = st.floats(-LARGE, LARGE, width=32, allow_subnormal=False)
    fill = st.sampled_from([0.0, 0.5, -1e-6])
    numbers = arrays(np.float32, layout.extra_offsets(extra)[-1], elements=elements, fill=fill)
    return layout, extra, draw(numbers)


def vectors(layout: AdapterLayout, extra: list[int]) -> list[tuple[int, int, int]]:
    """Begin, count and width of every vector of a row, one at a time."""
    starts = [(g, layout.beta_offset(g)) for g in range(len(layout.groups))]
    for g, first in enumerate(layout.extra_offsets(extra)[:-1]):
        starts += [(g, first + j * layout.pair_width(g)) for j in range(extra[g])]
    found = []
    for g, begin in starts:
        group, beta = layout.groups[g], layout.beta_width(g)
        found.append((begin, group.in_features, beta))
        found.append((begin + beta, group.out_features, layout.alpha_width(g)))
    return found


@given(rows())
def test_a_blob_holds_every_number_within_half_a_step(row: Row) -> None:
    layout, extra, numbers = row
    blob = encode_row(layout, extra, numbers)
    header = read_header(blob)
    assert len(blob) == header.header_bytes + len(numbers)
    found = decode_row(layout, blob).numbers
    for begin, count, width in vectors(layout, extra):
        exact = numbers[begin : begin + count].astype(np.float64)
        step = np.abs(exact).max() / 127
        apart = np.abs(found[begin : begin + count] - exact).max()
        assert apart <= 0.5 * step * (1 + 1e-4) + 1e-37
        assert not found[begin + count : begin + width].any()


@given(rows())
def test_stored_rows_are_stable_and_canonical(row: Row) -> None:
    layout, extra, numbers = row
    stored = quantise(layout, extra, numbers)
    again = quantise(layout, extra, dequantise(layout, extra, stored))
    for begin, count, width in vectors(layout, extra):
        (scale,) = struct.unpack("<f", stored[begin + width - 4 : begin + width].tobytes())
        (again_scale,) = struct.unpack("<f", again[begin + width - 4 : begin + width].tobytes())
        assert again_scale == pytest.approx(scale, rel=1e-6, abs=1e-37)
        assert not stored[begin + count : begin + width - 4].any()
        assert np.abs(stored[begin : begin + count].astype(int)).max() in (0, 127) or scale < 1e-37


def test_the_identity_is_zeros_and_a_row_without_padding_is_its_numbers() -> None:
    layout = make_layout(make_group("g", 28, (28,)), dtype="int8")
    assert not quantise(layout, [0], np.zeros(64, np.float32)).any()
    numbers = np.zeros(64, np.float32)
    numbers[:4] = (-0.25, 0.125, 0.001, 0.0005)
    stored = quantise(layout, [0], numbers)
    assert stored[:5].tolist() == [-127, 64, 1, 0, 0]
    assert stored[28:32].tobytes() == struct.pack("<f", np.float32(0.25 / 127))
    assert not stored[32:].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused(value: float) -> None:
    layout = make_layout(dtype="int8")
    numbers = np.zeros(layout.base_width, np.float32)
    numbers[3] = value
    with pytest.raises(InvalidAdapter, match="number 3 does not fit int8"):
        encode_row(layout, [0], numbers)


def test_what_would_be_infinite_again_is_refused() -> None:
    layout = make_layout(dtype="int8")
    numbers = np.zeros(layout.base_width, np.float32)
    numbers[3] = np.finfo(np.float32).max
    with pytest.raises(InvalidAdapter, match="does not fit int8"):
        encode_row(layout, [0], numbers)


@pytest.mark.parametrize("scale", [np.nan, np.inf, -np.inf, -1.0, 3e36])
@pytest.mark.parametrize("pair", [0, 1])
def test_rows_with_a_bad_scale_are_corrupt(scale: float, pair: int) -> None:
    layout = make_layout(dtype="int8")
    blob = encode_row(layout, [1], np.full(2 * layout.base_width, 0.5, np.float32))
    at = read_header(blob).header_bytes + pair * layout.base_width + layout.beta_width(0) - 4
    broken = blob[:at] + struct.pack("<f", scale) + blob[at + 4 :]
    assert decode_row(layout, blob).numbers[0] == pytest.approx(0.5)
    with pytest.raises(AdapterCorrupt, match="scale"):
        decode_row(layout, broken)


def test_rows_of_another_dtype_are_corrupt() -> None:
    layout = make_layout(dtype="int8")
    other = make_layout(dtype="bfloat16")
    blob = encode_row(other, [0], np.zeros(other.base_width, np.float32))
    with pytest.raises(AdapterCorrupt, match="another base model"):
        decode_row(layout, blob)
