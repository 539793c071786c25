import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.home_counts import HomeCounts

GROW_S = 0.5
SHRINK_S = 30.0
ADAPTER = 7


def make_counts(max_homes: int = 64, grow_s: float = GROW_S, max_hot: int = 100) -> HomeCounts:
    return HomeCounts(
        max_homes=max_homes, grow_after_s=grow_s, shrink_after_s=SHRINK_S, max_hot=max_hot
    )


def keep_full(counts: HomeCounts, from_s: float, to_s: float, every_s: float = 0.125) -> None:
    """Note it at both ends and every so often between them."""
    for tick in range(round((to_s - from_s) / every_s) + 1):
        counts.note_full(ADAPTER, from_s + tick * every_s)


def test_one_home_is_enough_for_who_is_never_full() -> None:
    counts = make_counts()
    assert [counts.of(ADAPTER, now_s) for now_s in (0.0, 100.0)] == [1, 1]


@pytest.mark.parametrize(
    ("seconds", "homes"), [(0.0, 1), (0.375, 1), (0.5, 2), (0.875, 2), (1.0, 4), (3.0, 64)]
)
def test_homes_double_as_long_as_all_stay_full(seconds: float, homes: int) -> None:
    counts = make_counts()
    keep_full(counts, 5.0, 5.0 + seconds)
    assert counts.of(ADAPTER, 5.0 + seconds) == homes
    assert counts.of(ADAPTER + 1, 5.0 + seconds) == 1


def test_a_crowd_at_one_moment_is_not_sustained() -> None:
    counts = make_counts()
    for _ in range(1000):
        counts.note_full(ADAPTER, 5.0)
    assert counts.of(ADAPTER, 5.0) == 1


def test_crowds_with_quiet_seconds_between_are_not_sustained() -> None:
    counts = make_counts()
    keep_full(counts, 0.0, 20.0, every_s=1.25)
    assert counts.of(ADAPTER, 20.0) == 1
    keep_full(counts, 30.0, 31.0, every_s=1.0)
    assert counts.of(ADAPTER, 31.0) == 2


def test_there_are_never_more_than_the_most() -> None:
    counts = make_counts(max_homes=6)
    keep_full(counts, 0.0, 10.0)
    assert counts.of(ADAPTER, 10.0) == 6


def test_homes_go_one_by_one() -> None:
    counts = make_counts()
    keep_full(counts, 0.0, 1.5)
    found = [counts.of(ADAPTER, 1.5 + n * SHRINK_S) for n in (0, 0.99, 1, 1.99, 2, 3, 7, 9)]
    assert found == [8, 8, 7, 7, 6, 5, 1, 1]
    assert repr(counts) == "<HomeCounts 0 hot adapters>"


def test_being_full_again_puts_off_the_loss_of_a_home() -> None:
    counts = make_counts()
    keep_full(counts, 0.0, 1.5)
    for _ in range(5):
        counts.note_full(ADAPTER, 25.0)
    assert counts.of(ADAPTER, 25.0 + 0.99 * SHRINK_S) == 8
    assert counts.of(ADAPTER, 25.0 + SHRINK_S) == 7


def test_homes_that_were_lost_unseen_are_lost() -> None:
    counts = make_counts()
    keep_full(counts, 0.0, 1.5)
    counts.note_full(ADAPTER, 1.5 + 4 * SHRINK_S)
    assert counts.of(ADAPTER, 1.5 + 4 * SHRINK_S) == 4


def test_looking_often_is_as_looking_once() -> None:
    seldom, often = make_counts(), make_counts()
    for counts in (seldom, often):
        keep_full(counts, 0.0, 1.5)
    for second in range(20, 100, 20):
        often.of(ADAPTER, float(second))
    assert seldom.of(ADAPTER, 100.0) == often.of(ADAPTER, 100.0) == 5


@pytest.mark.parametrize("max_hot", [0, 1, 3])
def test_only_so_many_are_remembered_and_those_full_last(max_hot: int) -> None:
    counts = make_counts(grow_s=0.0, max_hot=max_hot)
    for adapter in (1, 2, 3, 4, 1, 5):
        counts.note_full(adapter, 1.0)
    kept = {adapter for adapter in range(1, 6) if counts.of(adapter, 1.0) > 1}
    assert kept == set([4, 1, 5][3 - max_hot :])
    assert repr(counts) == f"<HomeCounts {max_hot} hot adapters>"


@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.125, 0.5, 2.0, 30.0, 100.0]), st.booleans()), max_size=60
    ),
    st.integers(1, 9),
)
def test_any_history_stays_in_bounds_and_grows_only_when_full(
    steps: list[tuple[float, bool]], max_homes: int
) -> None:
    counts, now_s, before = make_counts(max_homes), 0.0, 1
    for seconds, is_full in steps:
        now_s += seconds
        if is_full:
            counts.note_full(ADAPTER, now_s)
        homes = counts.of(ADAPTER, now_s)
        assert 1 <= homes <= max_homes
        assert homes <= (min(2 * before, max_homes) if is_full else before)
        assert homes >= before - int(seconds / SHRINK_S) - 1
        before = homes
