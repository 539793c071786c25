"""Where the numbers of a LoRA lie in its row. Knows no files, weights or devices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from flora.layout import AdapterLayout, Member


@dataclass(frozen=True)
class LoraLayout:
    """The modules of one base model as LoRA sees them: every member of every group by itself.

    `base.max_rank` is the highest rank of a module, `base.dtype` the number format of the factors.
    A row holds A [rank, in] and B [out, rank] of the members that the LoRA changes, one after
    another, so a row of a small rank is short.
    """

    base: AdapterLayout

    @property
    def dtype(self) -> str:
        return self.base.dtype

    @property
    def max_rank(self) -> int:
        return self.base.max_rank

    @cached_property
    def members(self) -> tuple[Member, ...]:
        return tuple(member for group in self.base.groups for member in group.members)

    @cached_property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of every member."""
        return tuple(
            (group.in_features, member.out_features)
            for group in self.base.groups
            for member in group.members
        )

    @cached_property
    def places(self) -> dict[str, int]:
        """Index of a member by its module name."""
        return {member.name: index for index, member in enumerate(self.members)}

    @cached_property
    def digest(self) -> str:
        """SHA-256, 64 hex digits: equal digests mean equal offsets, whatever the highest rank."""
        return replace(self.base, max_rank=1).digest

    def num_numbers(self, ranks: Sequence[int]) -> int:
        """Numbers of a row in which each member has the rank given."""
        return sum(r * (n_in + n_out) for r, (n_in, n_out) in zip(ranks, self.sizes, strict=True))

    @cached_property
    def row_width(self) -> int:
        """Numbers of the largest row."""
        return self.num_numbers([self.max_rank] * len(self.sizes))
