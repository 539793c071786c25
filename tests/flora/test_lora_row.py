"""LoRA rows: round trips in every dtype, and refusals."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import AdapterCorrupt, InvalidAdapter
from flora.layout import AdapterLayout
from flora.lora_layout import LoraLayout
from flora.lora_row import Factors, LoraHeader, decode_lora, encode_lora, is_lora
from flora.row import encode_row, read_header
from tests.flora.layouts import layouts, make_group, make_layout

PRECISION = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
LAYOUT = LoraLayout(make_layout(make_group(), make_group("o", 8, (8,))))


def make_factors(layout: LoraLayout, ranks: list[int], seed: int = 0) -> list[Factors | None]:
    rng = np.random.default_rng(seed)
    return [
        (
            rng.normal(0, 1, (rank, n_in)).astype(np.float32),
            rng.normal(0, 1, (n_out, rank)).astype(np.float32),
        )
        if rank
        else None
        for rank, (n_in, n_out) in zip(ranks, layout.sizes, strict=True)
    ]


BLOB = encode_lora(LAYOUT, make_factors(LAYOUT, [2, 0, 1, 4]))


@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    layout = LoraLayout(data.draw(layouts(tuple(PRECISION))))
    ranks = [data.draw(st.integers(0, layout.max_rank)) for _ in layout.sizes]
    factors = make_factors(layout, ranks)
    blob = encode_lora(layout, factors)
    header = LoraHeader.read(blob)
    assert header.ranks == tuple(ranks)
    assert len(blob) == header.header_bytes + header.payload_bytes
    again = decode_lora(layout, blob)
    for pair, found in zip(factors, again, strict=True):
        assert (pair is None) == (found is None)
        for side, other in zip(pair or (), found or (), strict=True):
            np.testing.assert_allclose(other, side, rtol=PRECISION[layout.dtype], atol=1e-7)
    assert encode_lora(layout, again) == blob


def test_a_higher_rank_of_the_server_keeps_rows_and_a_lower_one_refuses_them() -> None:
    higher, lower = (
        LoraLayout(AdapterLayout("tiny-0", "float32", rank, LAYOUT.base.groups)) for rank in (16, 2)
    )
    assert decode_lora(higher, BLOB)[3] is not None
    with pytest.raises(AdapterCorrupt, match="rank 4, this engine takes 2"):
        decode_lora(lower, BLOB)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(0, b"FLR1"), (4, b"\2"), (6, b"\0"), (6, b"\4"), (8, b"\1"), (16, b"\0"), (24, b"\1")],
)
def test_headers_that_do_not_add_up_are_corrupt(offset: int, value: bytes) -> None:
    broken = BLOB[:offset] + value + BLOB[offset + len(value) :]
    with pytest.raises(AdapterCorrupt):
        decode_lora(LAYOUT, broken)


def test_rows_of_another_layout_or_size_are_corrupt() -> None:
    with pytest.raises(AdapterCorrupt, match="another base model"):
        decode_lora(LoraLayout(make_layout()), BLOB)
    other = LoraLayout(AdapterLayout("tiny-0", "bfloat16", 4, LAYOUT.base.groups))
    with pytest.raises(AdapterCorrupt, match="another base model"):
        decode_lora(other, BLOB)
    more = BLOB[:64] + struct.pack("<HH", 3, 0) + BLOB[68:]
    with pytest.raises(AdapterCorrupt, match="does not follow from its ranks"):
        decode_lora(LAYOUT, more)


def test_factors_that_fit_no_module_are_refused() -> None:
    wrong = make_factors(LAYOUT, [1, 1, 1, 1])
    wrong[0] = (np.zeros((1, 7), np.float32), np.zeros((8, 1), np.float32))
    with pytest.raises(InvalidAdapter, match="do not fit a module of 8 to 8"):
        encode_lora(LAYOUT, wrong)


def test_a_row_says_what_it_is(tmp_path: Path) -> None:
    lora, flora = tmp_path / "lora", tmp_path / "flora"
    lora.write_bytes(BLOB)
    base = make_layout()
    flora.write_bytes(encode_row(base, [0], np.zeros(base.base_width, np.float32)))
    assert is_lora(lora)
    assert not is_lora(flora)
    assert not is_lora(tmp_path / "absent")
    with pytest.raises(AdapterCorrupt, match="wrong magic"):
        read_header(BLOB)
    with pytest.raises(AdapterCorrupt, match="wrong magic"):
        LoraHeader.read(flora.read_bytes())
