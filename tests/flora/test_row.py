"""Row blobs: round trips in every dtype, and refusals."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from contracts.errors import AdapterCorrupt, InvalidAdapter
from flora.layout import AdapterLayout
from flora.row import Floats, decode_row, encode_row, read_header, widen
from tests.flora.layouts import layouts, make_group, make_layout

PRECISION = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@st.composite
def rows(draw: st.DrawFn) -> tuple[AdapterLayout, list[int], Floats]:
    layout = draw(layouts(tuple(PRECISION)))
    extra = [draw(st.integers(0, layout.max_extra_pairs(g))) for g in range(len(layout.groups))]
    width = layout.extra_offsets(extra)[-1]
    numbers = draw(
        arrays(
            np.float32,
            width,
            elements=st.floats(-8, 8, width=32, allow_subnormal=False),
            fill=st.just(0.5),
        )
    )
    return layout, extra, numbers


def make_blob(dtype: str = "bfloat16") -> tuple[AdapterLayout, bytes]:
    layout = make_layout(make_group(), make_group("o", 8, (8,)), dtype=dtype)
    return layout, encode_row(
        layout, [1, 0], np.full(layout.extra_offsets([1, 0])[-1], 0.5, np.float32)
    )


@given(rows())
def test_round_trip(row: tuple[AdapterLayout, list[int], Floats]) -> None:
    layout, extra, numbers = row
    blob = encode_row(layout, extra, numbers)
    header = read_header(blob)
    assert header.header_bytes % 64 == 0
    assert len(blob) == header.header_bytes + header.payload_bytes
    assert header.layout_digest == layout.digest
    again = decode_row(layout, blob)
    assert again.extra_pairs == tuple(extra)
    np.testing.assert_allclose(again.numbers, numbers, rtol=PRECISION[layout.dtype], atol=1e-7)
    assert encode_row(layout, extra, again.numbers) == blob


def test_a_row_without_extra_pairs_is_the_base_width() -> None:
    layout = make_layout(dtype="bfloat16")
    blob = encode_row(layout, [0], np.zeros(layout.base_width, np.float32))
    assert read_header(blob).payload_bytes == layout.base_width * 2


@given(arrays(np.float32, 32, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_bfloat16_rounds_to_nearest_even(numbers: Floats) -> None:
    layout = make_layout(make_group("g", 32, (32,)), dtype="bfloat16")
    whole = np.concatenate([numbers, np.zeros(32, np.float32)])
    try:
        got = decode_row(layout, encode_row(layout, [0], whole)).numbers[:32].astype(np.float64)
    except InvalidAdapter:
        assert np.abs(numbers).max() > 3.38e38
        return
    exact = numbers.astype(np.float64)
    below = widen((numbers.view(np.uint32) >> 16).astype("<u2").tobytes(), "bfloat16")
    above = widen(((numbers.view(np.uint32) >> 16) + 1).astype("<u2").tobytes(), "bfloat16")
    with np.errstate(invalid="ignore"):
        best = np.fmin(np.abs(below - exact), np.abs(above.astype(np.float64) - exact))
    assert (np.abs(got - exact) <= best).all()
    assert (
        encode_row(layout, [0], np.full(64, 1.00390625, np.float32))[64 + 64 :][:2] == b"\x80\x3f"
    )


ALL_ONES = np.uint32(0xFFFFFFFF).view(np.float32)


@pytest.mark.parametrize("value", [np.nan, ALL_ONES, np.inf, -np.inf, 3.4e38])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_numbers_that_do_not_fit_are_refused(value: float, dtype: str) -> None:
    layout = make_layout(dtype=dtype)
    numbers = np.zeros(layout.base_width, np.float32)
    numbers[3] = value
    with pytest.raises(InvalidAdapter, match="number 3 "):
        encode_row(layout, [0], numbers)


def test_too_many_pairs_and_wrong_sizes_are_refused() -> None:
    layout = make_layout(max_rank=1)
    with pytest.raises(InvalidAdapter, match="4 pairs, at most 3"):
        encode_row(layout, [3], np.zeros(layout.extra_offsets([3])[-1], np.float32))
    with pytest.raises(InvalidAdapter, match="was expected"):
        encode_row(layout, [0], np.zeros(5, np.float32))


@pytest.mark.parametrize(
    ("offset", "value"),
    [
        (0, b"PK"),
        (4, b"\2"),
        (6, b"\4"),
        (8, b"\1"),
        (8, b"\xff\xff\xff\xff"),
        (12, b"\0"),
        (16, b"\0"),
        (23, b"\xff"),
        (24, b"\1"),
    ],
)
def test_headers_that_do_not_add_up_are_corrupt(offset: int, value: bytes) -> None:
    layout, blob = make_blob()
    broken = blob[:offset] + value + blob[offset + len(value) :]
    with pytest.raises(AdapterCorrupt):
        decode_row(layout, broken)


def test_rows_of_another_layout_are_corrupt() -> None:
    layout, blob = make_blob()
    with pytest.raises(AdapterCorrupt, match="another base model"):
        decode_row(make_layout(dtype="bfloat16"), blob)
    too_many = blob[:64] + struct.pack("<HH", 12, 0) + blob[68:]
    with pytest.raises(AdapterCorrupt, match="more pairs"):
        decode_row(layout, too_many)
    other_size = blob[:64] + struct.pack("<HH", 2, 0) + blob[68:]
    with pytest.raises(AdapterCorrupt, match="does not follow"):
        decode_row(layout, other_size)


@given(st.binary(max_size=300))
def test_random_bytes_are_corrupt(blob: bytes) -> None:
    with pytest.raises(AdapterCorrupt):
        read_header(blob)


@given(st.data())
def test_truncated_rows_are_corrupt(data: st.DataObject) -> None:
    layout, blob = make_blob()
    with pytest.raises(AdapterCorrupt):
        decode_row(layout, memoryview(blob)[: data.draw(st.integers(0, len(blob) - 1))])
