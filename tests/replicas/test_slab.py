import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import AdapterCorrupt
from flora.layout import AdapterLayout
from flora.row import Row, decode_row, encode_row, read_header
from flora.shard import Shard
from replicas.slab import Slab
from tests.flora.layouts import layouts
from tests.flora.shards import Split, SplitGroup, make_shards, part_of, shards
from tests.replicas.rows import CPU, filled_slab, make_row, row_pairs, small_layout, write_row

DTYPES = ["bfloat16", "float16", "float32", "int8"]
LAYOUT = small_layout()


def assert_holds(slab: Slab, slot: int, blob: bytes) -> None:
    row = decode_row(slab.layout, blob)
    payload = blob[read_header(blob).header_bytes :]
    stored = slab.numbers[slot, : len(row.numbers)].view(torch.uint8).numpy()
    assert stored.tobytes() == payload
    assert tuple(slab.extra_pairs[slot]) == row.extra_pairs
    if any(row.extra_pairs):
        offsets = slab.layout.extra_offsets(row.extra_pairs)
        assert tuple(slab.extra_offset[slot]) == offsets[:-1]


def stored_row(slab: Slab, extra_pairs: tuple[int, ...]) -> bytes:
    """Slot 1 as a row of the slab's layout."""
    count = slab.layout.num_numbers(extra_pairs)
    empty = encode_row(slab.layout, extra_pairs, np.zeros(count, np.float32))
    stored = slab.numbers[1, :count].view(torch.uint8).numpy().tobytes()
    return empty[: read_header(empty).header_bytes] + stored


def assert_same_pairs(layout: AdapterLayout, found: Row, expected: Row) -> None:
    """In all numbers that are read, which those in padding are not."""
    ends = layout.extra_offsets(expected.extra_pairs)
    for g, group in enumerate(layout.groups):
        width, beta = layout.pair_width(g), layout.beta_width(g)
        for begin in (layout.beta_offset(g), *range(ends[g], ends[g + 1], width)):
            for first, size in ((begin, group.in_features), (begin + beta, group.out_features)):
                place = slice(first, first + size)
                np.testing.assert_array_equal(found.numbers[place], expected.numbers[place])


def assert_is_identity(slab: Slab, slot: int) -> None:
    assert not slab.extra_pairs[slot].any()
    assert not slab.numbers[slot].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extra_pairs", [(0, 0), (2, 0), (0, 3), (11, 3)])
def test_a_slot_holds_what_the_file_holds(
    tmp_path: Path, dtype: str, extra_pairs: tuple[int, int]
) -> None:
    layout = small_layout(dtype)
    slab = Slab(layout, 3, CPU)
    slab.load(2, write_row(tmp_path / "row", layout, extra_pairs))
    assert_holds(slab, 2, (tmp_path / "row").read_bytes())
    for slot in (0, 1, 3):
        assert_is_identity(slab, slot)


@given(data=st.data(), layout=layouts())
def test_any_row_of_any_layout(
    data: st.DataObject, layout: AdapterLayout, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "row"
    slab = Slab(layout, 1, CPU)
    for seed in range(2):  # the second over the first
        slab.load(1, write_row(path, layout, data.draw(row_pairs(layout)), seed))
        assert_holds(slab, 1, path.read_bytes())
    assert_is_identity(slab, 0)


@given(data=st.data(), devices=shards())
def test_a_shards_part_of_any_row(
    data: st.DataObject, devices: list[Shard], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "row"
    shard = data.draw(st.sampled_from(devices))
    slab = Slab(shard.layout, 1, CPU, shard)
    for seed in range(2):  # the second over the first
        write_row(path, shard.whole, data.draw(row_pairs(shard.whole)), seed)
        slab.load(1, path)
        expected = decode_row(shard.layout, part_of(shard, path.read_bytes()))
        found = decode_row(shard.layout, stored_row(slab, expected.extra_pairs))
        assert_same_pairs(shard.layout, found, expected)
        assert tuple(slab.extra_pairs[1]) == expected.extra_pairs


def test_a_shard_takes_rows_of_the_whole_layout_alone(tmp_path: Path) -> None:
    shard = make_shards([SplitGroup(Split(8, 2), ((Split(4, 2),),))], 2)[1]
    slab = Slab(shard.layout, 1, CPU, shard)
    slab.load(1, write_row(tmp_path / "whole", shard.whole, (1,)))
    for path in (write_row(tmp_path / "own", shard.layout, (1,)), tmp_path / "short"):
        (tmp_path / "short").write_bytes((tmp_path / "whole").read_bytes()[:-4])
        with pytest.raises(AdapterCorrupt):
            slab.load(1, path)
        assert_is_identity(slab, 1)
    slab.load(1, tmp_path / "whole")
    slab.poison(1)
    assert torch.isnan(slab.numbers[1]).all()


def test_rows_start_on_cache_lines() -> None:
    slab = Slab(LAYOUT, 2, CPU)
    assert slab.numbers.data_ptr() % 64 == 0
    assert slab.numbers.stride(0) * slab.numbers.element_size() % 64 == 0


def test_a_longer_adapter_leaves_nothing_within_reach(tmp_path: Path) -> None:
    slab = filled_slab(tmp_path, LAYOUT, [(11, 3)])
    slab.load(1, write_row(tmp_path / "short", LAYOUT, (0, 1), seed=9))
    assert_holds(slab, 1, (tmp_path / "short").read_bytes())
    assert slab.extra_pairs[1].sum() == 1


def other_layout(blob: bytes) -> bytes:
    return make_row(small_layout(max_rank=3), (0, 0))


def other_groups(blob: bytes) -> bytes:
    many = AdapterLayout("tiny-0", "float32", 1, LAYOUT.groups[:1])
    return make_row(many, (0,))


BAD_FILES: list[Callable[[bytes], bytes]] = [
    lambda blob: b"",
    lambda blob: blob[:10],
    lambda blob: blob[:64],
    lambda blob: blob[:-1],
    lambda blob: blob + b"\0",
    lambda blob: b"\x80\x04pickle, perhaps" * 99,
    lambda blob: b"FLR2" + blob[4:],
    other_layout,
    other_groups,
    lambda blob: make_row(small_layout("bfloat16"), (0, 0)),
]


@pytest.mark.parametrize("spoil", BAD_FILES)
def test_a_bad_file_leaves_the_identity(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    slab = filled_slab(tmp_path, LAYOUT, [(11, 3)])
    bad = tmp_path / "bad"
    bad.write_bytes(spoil((tmp_path / "1").read_bytes()))
    with pytest.raises(AdapterCorrupt):
        slab.load(1, bad)
    assert_is_identity(slab, 1)


def test_a_file_that_is_not_there_leaves_the_identity(tmp_path: Path) -> None:
    slab = filled_slab(tmp_path, LAYOUT, [(1, 1)])
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(OSError, match=path.name):
            slab.load(1, path)
        assert_is_identity(slab, 1)


def test_a_file_that_shrinks_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slab = filled_slab(tmp_path, LAYOUT, [(1, 1)])
    path = write_row(tmp_path / "row", LAYOUT, (1, 1))
    pread = os.pread

    def shrink_then_read(descriptor: int, size: int, offset: int) -> bytes:
        os.truncate(path, path.stat().st_size - 4)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", shrink_then_read)
    with pytest.raises(AdapterCorrupt, match="ended early"):
        slab.load(1, path)
    assert_is_identity(slab, 1)


def test_a_poisoned_slot_is_not_a_number_until_it_is_filled_again(tmp_path: Path) -> None:
    slab = filled_slab(tmp_path, LAYOUT, [(2, 0), (2, 0)])
    slab.poison(1)
    assert torch.isnan(slab.numbers[1]).all()
    assert not slab.extra_pairs[1].any()
    assert_holds(slab, 2, (tmp_path / "2").read_bytes())
    slab.load(1, tmp_path / "2")
    assert_holds(slab, 1, (tmp_path / "2").read_bytes())
    slab.poison(1)
    slab.wipe(1)
    assert_is_identity(slab, 1)
