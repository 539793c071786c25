"""Layouts that devices share, drawn by hypothesis, and a device's part of a row as a row."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from flora.layout import AdapterLayout, Group, Member
from flora.row import encode_row, read_header
from flora.shard import GroupShard, Shard, Span, own_span


class Split(NamedTuple):
    """A vector of equal parts, one after another; fewer of them than devices are shared."""

    own_size: int
    num_parts: int

    @property
    def size(self) -> int:
        return self.own_size * self.num_parts

    def span(self, rank: int, world_size: int, first: int = 0) -> Span:
        span = own_span(self.size, self.own_size, rank, world_size)
        return Span(first + span.first, span.count)


class SplitGroup(NamedTuple):
    """A group of splits: its inputs, and those that each member's outputs are stacked of."""

    inputs: Split
    members: tuple[tuple[Split, ...], ...]

    def group(self, name: str) -> Group:
        sizes = [sum(split.size for split in splits) for splits in self.members]
        members = tuple(Member(f"{name}.{m}", size) for m, size in enumerate(sizes))
        return Group(name, self.inputs.size, members)

    def shard(self, rank: int, world_size: int) -> GroupShard:
        first, outputs = 0, []
        for splits in self.members:
            spans = []
            for split in splits:
                spans.append(split.span(rank, world_size, first))
                first += split.size
            outputs.append(tuple(spans))
        return GroupShard(self.inputs.span(rank, world_size), tuple(outputs))


def make_shards(
    groups: Sequence[SplitGroup], world_size: int, dtype: str = "float32", max_rank: int = 2
) -> list[Shard]:
    """All devices' shards of one layout."""
    named = tuple(group.group(f"g{i}") for i, group in enumerate(groups))
    layout = AdapterLayout("tiny-0", dtype, max_rank, named)
    return [
        Shard(layout, tuple(group.shard(rank, world_size) for group in groups))
        for rank in range(world_size)
    ]


@st.composite
def shards(draw: st.DrawFn) -> list[Shard]:
    """One to four devices' shards of a layout, with every way of sharing a vector."""
    world_size = draw(st.integers(1, 4))
    parts = st.sampled_from([n for n in range(1, world_size + 1) if world_size % n == 0])
    splits = st.builds(Split, st.integers(1, 40), parts)
    member = st.lists(splits, min_size=1, max_size=3).map(tuple)
    members = st.lists(member, min_size=1, max_size=3).map(tuple)
    groups = draw(st.lists(st.builds(SplitGroup, splits, members), min_size=1, max_size=3))
    dtype = draw(st.sampled_from(["bfloat16", "float16", "float32", "int8"]))
    return make_shards(groups, world_size, dtype, draw(st.integers(1, 3)))


def part_of(shard: Shard, blob: bytes) -> bytes:
    """The shard's part of a row of the whole layout, as a row of its own layout."""
    header, item = read_header(blob), f"u{shard.whole.itemsize}"
    count = shard.layout.num_numbers(header.extra_pairs)
    empty = encode_row(shard.layout, header.extra_pairs, np.zeros(count, np.float32))
    own = np.frombuffer(empty, np.uint8).copy()
    row = np.frombuffer(blob, item, offset=header.header_bytes)
    shard.cut(header.extra_pairs, row, own[header.header_bytes :].view(item))
    return own.tobytes()
