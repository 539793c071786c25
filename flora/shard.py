"""The part of an adapter's row that one of several devices needs, where they share a model.

A row on the wire and in every cache is whole; each device cuts its part out of it. Knows no
devices and no engine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

from numpy.typing import NDArray

from contracts.errors import ServiceError
from flora.layout import SCALE_BYTES, AdapterLayout, Group, Member


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers `first`, ..., `first + count - 1` of a vector."""

    first: int
    count: int


def own_span(size: int, own_size: int, rank: int, world_size: int) -> Span:
    """The `own_size` of `size` numbers that device `rank` of `world_size` has.

    Parts lie in the order of the ranks. Where there are fewer parts than devices, neighbours have
    the same one: all of them the only one, or some a head of keys that they share. Raises
    ServiceError where neither the numbers nor the devices divide.
    """
    num_parts = size // own_size
    if size % own_size or num_parts < 1 or world_size % num_parts:
        raise ServiceError(
            f"{size} numbers are no equal parts of {own_size} for {world_size} devices"
        )
    return Span(rank * num_parts // world_size * own_size, own_size)


@dataclass(frozen=True)
class GroupShard:
    """One device's part of a group: of the inputs, and spans of the stacked outputs, a member's
    one after another. A member has several where its own outputs are stacked of parts.
    """

    inputs: Span
    outputs: tuple[tuple[Span, ...], ...]

    def of(self, group: Group) -> Group:
        """The group as the device has it. Raises ServiceError unless it is a part of `group`."""
        firsts = [group.out_offset(m) for m in range(len(group.members))]
        limits = pairwise([*firsts, group.out_features])
        if (
            len(self.outputs) != len(group.members)
            or not all(self.outputs)
            or not _within([self.inputs], (0, group.in_features))
            or not all(map(_within, self.outputs, limits))
        ):
            raise ServiceError(f"not a part of {group.name}: {self}")
        members = tuple(
            Member(member.name, sum(span.count for span in spans))
            for member, spans in zip(group.members, self.outputs, strict=True)
        )
        return Group(group.name, self.inputs.count, members)


@dataclass(frozen=True)
class Shard:
    """One device's part of every row of `whole`. `layout` is where its numbers lie there.

    With A and B sliced like the outputs and inputs of W, each device's products are its part of
    y = sum_j A_j * (W (B_j * x)): its outputs, or, of a layer whose inputs are split, its terms of
    a sum that the engine takes over all devices afterwards, which A scales term by term.
    Raises ServiceError unless the groups are parts of the layout's.
    """

    whole: AdapterLayout
    groups: tuple[GroupShard, ...]

    def __post_init__(self) -> None:
        if len(self.groups) != len(self.whole.groups):
            raise ServiceError("a shard has a part of every group")
        _ = self.layout

    @cached_property
    def layout(self) -> AdapterLayout:
        """The device's own rows, which never leave it."""
        own = tuple(s.of(group) for s, group in zip(self.groups, self.whole.groups, strict=True))
        whole = self.whole
        return AdapterLayout(whole.base_fingerprint, whole.dtype, whole.max_rank, own)

    @property
    def is_whole(self) -> bool:
        """Nothing is left out."""
        return self.layout == self.whole

    def cut(self, extra_pairs: Sequence[int], row: NDArray[Any], own: NDArray[Any]) -> None:
        """Copy the device's numbers from a stored row of `whole` to the beginning of `own`.

        Both are items of the dtype's size, [at least a row's numbers] of their layouts: numbers
        are copied as they are, an int8 vector's scale with them. Padding of `own` is not written.
        """
        for source, target in self._base_moves:
            own[target] = row[source]
        if not any(extra_pairs):
            return
        ends, own_ends = (part.extra_offsets(extra_pairs) for part in (self.whole, self.layout))
        for g, num_pairs in enumerate(extra_pairs):
            pairs = row[ends[g] : ends[g + 1]].reshape(num_pairs, self.whole.pair_width(g))
            own_pairs = own[own_ends[g] : own_ends[g + 1]].reshape(
                num_pairs, self.layout.pair_width(g)
            )
            for source, target in self._pair_moves[g]:
                own_pairs[:, target] = pairs[:, source]

    @cached_property
    def _pair_moves(self) -> tuple[tuple[tuple[slice, slice], ...], ...]:
        """For each group, slices of one of its pairs and where they go in the device's pair."""
        moves = []
        for g, group in enumerate(self.groups):
            outputs = [span for spans in group.outputs for span in spans]
            moves.append(
                (
                    *self._vector_moves(
                        [group.inputs],
                        (0, self.whole.beta_width(g)),
                        (0, self.layout.beta_width(g)),
                    ),
                    *self._vector_moves(
                        outputs,
                        (self.whole.beta_width(g), self.whole.pair_width(g)),
                        (self.layout.beta_width(g), self.layout.pair_width(g)),
                    ),
                )
            )
        return tuple(moves)

    def _vector_moves(
        self, spans: Sequence[Span], ends: tuple[int, int], own_ends: tuple[int, int]
    ) -> list[tuple[slice, slice]]:
        """`ends`: where the vector begins and ends, here and, `own_ends`, there."""
        firsts = accumulate((span.count for span in spans), initial=own_ends[0])
        moves = [
            (_slice(ends[0] + span.first, span.count), _slice(first, span.count))
            for span, first in zip(spans, firsts, strict=False)
        ]
        if self.whole.dtype == "int8":
            source, target = ends[1] - SCALE_BYTES, own_ends[1] - SCALE_BYTES
            moves.append((_slice(source, SCALE_BYTES), _slice(target, SCALE_BYTES)))
        return moves

    @cached_property
    def _base_moves(self) -> tuple[tuple[slice, slice], ...]:
        """The same of pair 0 of all groups, in whole rows: all that most rows have."""
        return tuple(
            (_shift(source, self.whole.beta_offset(g)), _shift(target, self.layout.beta_offset(g)))
            for g, moves in enumerate(self._pair_moves)
            for source, target in moves
        )


def _within(spans: Sequence[Span], limits: tuple[int, int]) -> bool:
    first, end = limits
    return all(first <= s.first and s.count > 0 and s.first + s.count <= end for s in spans)


def _slice(first: int, count: int) -> slice:
    return slice(first, first + count)


def _shift(part: slice, offset: int) -> slice:
    return slice(part.start + offset, part.stop + offset)
