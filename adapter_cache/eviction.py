"""Which blobs leave the node first. Decides; removes nothing.

By recent uses a byte: a blob earns its place by the fetches that it saves, and pays in memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from contracts.adapters import Digest

# tmpfs stores whole pages. Counting in them, rows of one shape are of one size.
_PAGE_BYTES = 4096
# Reading the directory is paid for once in this share of the budget.
_BATCH_SHARE = 16
# Whoever fetched a blob must come to pin it; a blob has to show that it is used again.
_NEW_SHARE = 64
_MIN_NEW = 8


@dataclass(frozen=True, slots=True)
class Resident:
    """One blob on the node."""

    used_at_ns: int
    digest: Digest
    size_bytes: int


def bytes_to_free(used_bytes: int, wanted_bytes: int, budget_bytes: int) -> int:
    """How much must go before `wanted_bytes` come: 0 if they fit, else a batch's worth or more."""
    if used_bytes + wanted_bytes <= budget_bytes:
        return 0
    return used_bytes + max(wanted_bytes, budget_bytes // _BATCH_SHARE) - budget_bytes


def eviction_order(
    residents: Sequence[Resident], frequency: Callable[[Digest], int]
) -> list[Resident]:
    """`residents`, which are in order of use, in the order in which they should leave.

    The fewest uses a page first, of equal ones the least recently used. Those used last of all,
    one in 64 and at least 8, come after the others.
    """
    num_new = max(_MIN_NEW, len(residents) // _NEW_SHARE)
    older, newest = residents[:-num_new], residents[-num_new:]
    return [*sorted(older, key=lambda resident: _value(resident, frequency)), *newest]


def _value(resident: Resident, frequency: Callable[[Digest], int]) -> float:
    return frequency(resident.digest) / max(1, -(-resident.size_bytes // _PAGE_BYTES))
