"""Where every number of a fLoRA adapter lies in its row. Knows no files, weights or devices."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import accumulate

from contracts.errors import ServiceError

ITEM_BYTES = {"bfloat16": 2, "float32": 4, "float16": 2, "int8": 1}
"""Bytes of one number, for each dtype that a row may have."""

SCALE_BYTES = 4
"""An int8 vector's float32 scale, in the last bytes of the vector's width."""

_ALIGNMENT = 32
_MAX_PAIRS = 0xFFFF


def pad32(count: int) -> int:
    """`count` rounded up to a multiple of 32, so that no vector register's load is split."""
    return -(-count // _ALIGNMENT) * _ALIGNMENT


def vector_width(count: int, dtype: str) -> int:
    """Numbers that a vector of `count` takes in a row, with any scale and padding."""
    return pad32(count + SCALE_BYTES if dtype == "int8" else count)


@dataclass(frozen=True)
class Member:
    """One linear module of the Hugging Face model, by its module name."""

    name: str
    out_features: int


@dataclass(frozen=True)
class Group:
    """One matrix product of the engine: the members read the same input, their outputs are stacked.

    A pair of a group is B (beta, `in_features` numbers) and A (alpha, `out_features` numbers).
    """

    name: str
    in_features: int
    members: tuple[Member, ...]

    @cached_property
    def out_features(self) -> int:
        return sum(member.out_features for member in self.members)

    @cached_property
    def _out_offsets(self) -> tuple[int, ...]:
        return tuple(accumulate((member.out_features for member in self.members), initial=0))

    def out_offset(self, member_index: int) -> int:
        """First output of the member within the group's stacked outputs."""
        return self._out_offsets[member_index]


@dataclass(frozen=True)
class AdapterLayout:
    """The row of one base model: groups in order, and the numbers of each at fixed offsets.

        row | g0 beta | g0 alpha | g1 beta | g1 alpha | ... | extra pairs of g0 | of g1 | ...
            '------------ pair 0, base_width numbers -------'

    Offsets and widths count numbers of `dtype`; vectors are padded to multiples of 32 of them.
    `max_rank` bounds the rank of one module. Members of a group that have a B of their own add
    their ranks up, hence `max_extra_pairs`. Raises ServiceError when the parts make no layout.
    """

    base_fingerprint: str
    dtype: str
    max_rank: int
    groups: tuple[Group, ...]

    def __post_init__(self) -> None:
        names = [member.name for group in self.groups for member in group.members]
        sizes = [group.in_features for group in self.groups]
        sizes += [member.out_features for group in self.groups for member in group.members]
        if self.dtype not in ITEM_BYTES:
            raise ServiceError(
                f"a layout's dtype is one of {sorted(ITEM_BYTES)}, not {self.dtype!r}"
            )
        if not names or not all(group.members for group in self.groups):
            raise ServiceError("a layout needs at least one group, and every group a member")
        if len(set(names)) != len(names):
            raise ServiceError("a layout names a module twice")
        if min(sizes) < 1 or self.max_rank < 1:
            raise ServiceError("a layout's sizes and max_rank are positive")
        if max(map(self.max_extra_pairs, range(len(self.groups)))) > _MAX_PAIRS:
            raise ServiceError(
                f"a layout's max_rank allows more than {_MAX_PAIRS} pairs in a group"
            )

    @cached_property
    def _widths(self) -> tuple[tuple[int, int], ...]:
        return tuple(
            (vector_width(g.in_features, self.dtype), vector_width(g.out_features, self.dtype))
            for g in self.groups
        )

    def beta_width(self, group_index: int) -> int:
        """Numbers from a beta's beginning to its alpha's."""
        return self._widths[group_index][0]

    def alpha_width(self, group_index: int) -> int:
        return self._widths[group_index][1]

    def pair_width(self, group_index: int) -> int:
        return sum(self._widths[group_index])

    @cached_property
    def _base_offsets(self) -> tuple[int, ...]:
        return tuple(accumulate(map(sum, self._widths), initial=0))

    def beta_offset(self, group_index: int) -> int:
        """Offset in numbers of beta of pair 0."""
        return self._base_offsets[group_index]

    def alpha_offset(self, group_index: int) -> int:
        """Offset in numbers of alpha of pair 0."""
        return self._base_offsets[group_index] + self.beta_width(group_index)

    @property
    def base_width(self) -> int:
        """Numbers of pair 0 of all groups: a rank-1 tied adapter has exactly these."""
        return self._base_offsets[-1]

    def max_extra_pairs(self, group_index: int) -> int:
        return self.max_rank * len(self.groups[group_index].members) - 1

    def extra_offsets(self, extra_pairs: Sequence[int]) -> tuple[int, ...]:
        """Offset in numbers of each group's first extra pair, and of the row's end as last item.

        `extra_pairs` is the number of pairs beyond pair 0 of each group, one item a group.
        """
        widths = (n * sum(pair) for n, pair in zip(extra_pairs, self._widths, strict=True))
        return tuple(accumulate(widths, initial=self.base_width))

    def num_numbers(self, extra_pairs: Sequence[int]) -> int:
        """Numbers of a row with so many extra pairs; quick where there are none, as in most."""
        return self.extra_offsets(extra_pairs)[-1] if any(extra_pairs) else self.base_width

    @cached_property
    def row_width(self) -> int:
        """Numbers of the largest row that the layout allows."""
        return self.extra_offsets([self.max_extra_pairs(g) for g in range(len(self.groups))])[-1]

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return ITEM_BYTES[self.dtype]

    @property
    def row_bytes(self) -> int:
        return self.row_width * self.itemsize

    @cached_property
    def _members(self) -> dict[str, tuple[int, int]]:
        return {
            member.name: (g, m)
            for g, group in enumerate(self.groups)
            for m, member in enumerate(group.members)
        }

    def member(self, name: str) -> tuple[int, int] | None:
        """Group index and member index of a module, None if the layout does not have it."""
        return self._members.get(name)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits: equal digests mean equal offsets."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces, ASCII."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> "AdapterLayout":
        """The inverse of `to_json`. Raises ServiceError on anything else."""
        try:
            parts = json.loads(text)
            groups = tuple(
                Group(
                    str(group["name"]),
                    int(group["in_features"]),
                    tuple(Member(str(m["name"]), int(m["out_features"])) for m in group["members"]),
                )
                for group in parts["groups"]
            )
            return AdapterLayout(
                str(parts["base_fingerprint"]), str(parts["dtype"]), int(parts["max_rank"]), groups
            )
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ServiceError(f"not an adapter layout: {type(error).__name__}: {error}") from error
