"""What devices cut out of a row is, together, the row."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ServiceError
from flora.codec import compile_adapter, decompile, materialize
from flora.shard import GroupShard, Shard, Span, own_span
from tests.flora.adapters import LIMITS, adapters
from tests.flora.layouts import make_group, make_layout
from tests.flora.shards import Split, SplitGroup, make_shards, part_of, shards


def places(spans: Sequence[Span], first: int = 0) -> list[int]:
    """The numbers of the spans in order, counted from `first`."""
    return [n - first for span in spans for n in range(span.first, span.first + span.count)]


@given(data=st.data(), devices=shards())
def test_the_parts_of_a_row_are_together_the_row(data: st.DataObject, devices: list[Shard]) -> None:
    whole = devices[0].whole
    blob = compile_adapter(whole, data.draw(adapters(whole)), LIMITS).blob
    expected = decompile(whole, blob)
    found = {
        name: (np.full_like(b, np.nan), np.full_like(a, np.nan))
        for name, (b, a) in expected.items()
    }
    for shard in devices:
        for name, (b, a) in decompile(shard.layout, part_of(shard, blob)).items():
            g, m = whole.member(name) or (0, 0)
            part = shard.groups[g]
            found[name][0][:, places([part.inputs])] = b
            found[name][1][:, places(part.outputs[m], whole.groups[g].out_offset(m))] = a
    for name in expected:
        for mine, other in zip(found[name], expected[name], strict=True):
            np.testing.assert_array_equal(mine, other)


@given(data=st.data(), devices=shards())
def test_a_devices_weight_with_its_part_is_its_part_of_the_weight(
    data: st.DataObject, devices: list[Shard]
) -> None:
    whole = devices[0].whole
    blob = compile_adapter(whole, data.draw(adapters(whole)), LIMITS).blob
    scales = decompile(whole, blob)
    rng = np.random.default_rng(0)
    for g, group in enumerate(whole.groups):
        for m, member in enumerate(group.members):
            weight = rng.normal(size=(member.out_features, group.in_features)).astype(np.float32)
            changed = materialize(weight, *scales[member.name])
            for shard in devices:
                part = shard.groups[g]
                own = np.ix_(places(part.outputs[m], group.out_offset(m)), places([part.inputs]))
                mine = decompile(shard.layout, part_of(shard, blob))[member.name]
                # Another shape is another order of its sums.
                np.testing.assert_allclose(
                    materialize(weight[own], *mine), changed[own], rtol=1e-4, atol=1e-4
                )


@pytest.mark.parametrize(
    ("size", "own_size", "world_size", "firsts"),
    [
        (12, 4, 3, [0, 4, 8]),
        (12, 12, 3, [0, 0, 0]),
        (64, 32, 4, [0, 0, 32, 32]),  # two heads of keys on four devices
        (64, 64, 1, [0]),
    ],
)
def test_the_own_span(size: int, own_size: int, world_size: int, firsts: list[int]) -> None:
    found = [own_span(size, own_size, rank, world_size) for rank in range(world_size)]
    assert found == [Span(first, own_size) for first in firsts]


@pytest.mark.parametrize(("size", "own_size", "world_size"), [(10, 4, 2), (9, 3, 2), (2, 4, 2)])
def test_parts_that_are_not_equal(size: int, own_size: int, world_size: int) -> None:
    with pytest.raises(ServiceError, match=f"^{size} numbers"):
        own_span(size, own_size, 0, world_size)


def test_stacked_outputs_of_one_member() -> None:
    """As GPT-2's c_attn: one module, and each device has some of its q, of its k and of its v."""
    first, second = make_shards([SplitGroup(Split(8, 1), ((Split(4, 2),) * 3,))], 2)
    assert first.whole.groups[0].out_features == 24
    assert [member.out_features for member in second.layout.groups[0].members] == [12]
    assert places(second.groups[0].outputs[0]) == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]


def test_one_device_has_it_all() -> None:
    groups = [SplitGroup(Split(8, 2), ((Split(4, 1),),))]
    assert [shard.is_whole for shard in make_shards(groups, 2)] == [False, False]
    assert make_shards([SplitGroup(Split(8, 1), ((Split(4, 1),),))], 1)[0].is_whole


@pytest.mark.parametrize(
    "part",
    [
        GroupShard(Span(0, 9), ((Span(0, 8),), (Span(8, 4),), (Span(12, 4),))),
        GroupShard(Span(0, 0), ((Span(0, 8),), (Span(8, 4),), (Span(12, 4),))),
        GroupShard(Span(0, 8), ((Span(0, 8),), (Span(8, 4),))),
        GroupShard(Span(0, 8), ((Span(0, 9),), (Span(8, 4),), (Span(12, 4),))),
        GroupShard(Span(0, 8), ((Span(0, 8),), (), (Span(12, 4),))),
        GroupShard(Span(0, 8), ((Span(0, 8),), (Span(8, 4),), (Span(14, 4),))),
    ],
)
def test_what_is_no_part_of_a_group(part: GroupShard) -> None:
    layout = make_layout(make_group())  # 8 inputs; outputs of 8, 4 and 4
    with pytest.raises(ServiceError, match="not a part of qkv"):
        Shard(layout, (part,))


def test_a_shard_has_a_part_of_every_group() -> None:
    with pytest.raises(ServiceError, match="every group"):
        Shard(make_layout(), ())
