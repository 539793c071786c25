"""What counts as a right answer while pointers move."""

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pointer_history import PointerHistory


def test_a_name_is_absent_until_its_first_move_begins() -> None:
    history = PointerHistory()
    history.moved("a", 10.0, 12.0, "x")
    assert history.was_current("a", "", 0.0, 1.0)
    assert not history.was_current("a", "x", 0.0, 9.9)
    assert history.was_current("a", "x", 0.0, 10.0)
    assert history.was_current("a", "", 11.0, 11.5)
    assert not history.was_current("a", "", 12.1, 13.0)
    assert history.was_current("b", "", 50.0, 60.0)


def test_while_a_move_is_under_way_both_sides_are_right() -> None:
    history = PointerHistory()
    history.moved("a", 1.0, 2.0, "x")
    history.moved("a", 5.0, 7.0, "y")
    assert history.was_current("a", "x", 6.0, 6.5)
    assert history.was_current("a", "y", 6.0, 6.5)
    assert not history.was_current("a", "x", 7.1, 8.0)
    assert not history.was_current("a", "y", 3.0, 4.9)
    assert history.num_moves == 2


@given(
    st.lists(st.tuples(st.floats(0.1, 5), st.floats(0, 5), st.sampled_from("xyz")), max_size=8),
    st.floats(0, 60),
    st.floats(0, 10),
)
def test_something_was_always_current(
    steps: list[tuple[float, float, str]], from_s: float, length_s: float
) -> None:
    history, now_s = PointerHistory(), 0.0
    for wait_s, took_s, digest in steps:
        history.moved("a", now_s + wait_s, now_s + wait_s + took_s, digest)
        now_s += wait_s + took_s
    found = {
        d for d in ("", "x", "y", "z") if history.was_current("a", d, from_s, from_s + length_s)
    }
    assert found
