import hashlib

from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.eviction import Resident, bytes_to_free, eviction_order
from contracts.adapters import Digest


def digest(number: int) -> Digest:
    return Digest(hashlib.sha256(str(number).encode()).hexdigest())


def residents(*sizes_bytes: int) -> list[Resident]:
    return [Resident(at, digest(at), size) for at, size in enumerate(sizes_bytes)]


def order(found: list[Resident], uses: dict[Digest, int]) -> list[int]:
    return [victim.used_at_ns for victim in eviction_order(found, lambda name: uses.get(name, 0))]


def test_the_fewest_uses_go_first_then_the_least_recent_and_the_newest_last() -> None:
    uses = {digest(at): count for at, count in enumerate((8, 4, 8, 4))}
    assert order(residents(*[100] * 12), uses) == [1, 3, 0, 2, *range(4, 12)]
    assert order(residents(*[100] * 14), uses) == [4, 5, 1, 3, 0, 2, *range(6, 14)]


def test_a_large_blob_needs_more_uses_than_a_small_one() -> None:
    found = residents(40_960, 100, 40_960, *[1] * 8)
    assert order(found, {digest(0): 36, digest(1): 4, digest(2): 44})[:3] == [0, 1, 2]


def test_few_blobs_leave_in_order_of_use() -> None:
    found = residents(*[100] * 8)
    assert order(found, {digest(0): 200}) == list(range(8))
    assert order([], {}) == []


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=200),
)
def test_every_resident_is_there_once_and_the_last_ones_are_the_newest(
    found: list[tuple[int, int]],
) -> None:
    stored = residents(*(size for size, _ in found))
    uses = {digest(at): count for at, (_, count) in enumerate(found)}
    leaving = eviction_order(stored, uses.__getitem__)
    assert sorted(leaving, key=lambda resident: resident.used_at_ns) == stored
    num_new = max(8, len(stored) // 64)
    assert leaving[-num_new:] == stored[-num_new:]


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_what_is_freed_makes_room(budget: int, used: int, wanted: int) -> None:
    excess = bytes_to_free(used, wanted, budget)
    if used + wanted <= budget:
        assert excess == 0
    else:
        assert used - excess + wanted <= budget
        assert used - excess + budget // 16 <= budget
