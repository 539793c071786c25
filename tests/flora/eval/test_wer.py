from functools import lru_cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import InvalidRequest
from flora.eval.wer import count_errors, edit_distance, normalise, word_error_rate

WORDS = st.lists(st.sampled_from("abc"), max_size=6)


def slow_distance(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """The definition, by recursion."""

    @lru_cache(None)
    def left(i: int, j: int) -> int:
        if not i or not j:
            return i + j
        swap = left(i - 1, j - 1) + (first[i - 1] != second[j - 1])
        return min(swap, left(i - 1, j) + 1, left(i, j - 1) + 1)

    return left(len(first), len(second))


@given(WORDS, WORDS)
def test_distance_equals_its_definition(first: list[str], second: list[str]) -> None:
    assert edit_distance(first, second) == slow_distance(tuple(first), tuple(second))


@given(WORDS, WORDS, WORDS)
def test_distance_is_a_metric(a: list[str], b: list[str], c: list[str]) -> None:
    assert edit_distance(a, b) == edit_distance(b, a)
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalise(text)
    assert count_errors(once, text).num_edits == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It's  9 O\N{RIGHT SINGLE QUOTATION MARK}CLOCK!", "its 9 oclock"),
        ("Ещё—раз", "еще раз"),
        ("Straße, ﬁn.", "strasse fin"),
        ("…", ""),
    ],
)
def test_what_is_compared(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_rate_is_over_all_words_and_not_a_mean_of_rates() -> None:
    pairs = [("one two three four", "one two three four"), ("yes", "no, sir")]
    assert word_error_rate(pairs) == 2 / 5
    assert word_error_rate([("今日は", "今日わ")], characters=True) == 1 / 3


def test_no_words_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="no reference has a word"):
        word_error_rate([("!", "one")])
