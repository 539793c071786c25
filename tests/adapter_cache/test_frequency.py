import hashlib
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.frequency import EMPTY_SKETCH, SKETCH_BYTES, FrequencySketch, is_sketch
from contracts.adapters import Digest

FULL = 252


def digest(number: int) -> Digest:
    return Digest(hashlib.sha256(str(number).encode()).hexdigest())


def make_sketch() -> FrequencySketch:
    return FrequencySketch(memoryview(bytearray(EMPTY_SKETCH)))


@given(st.lists(st.integers(0, 50), max_size=300))
def test_before_ageing_it_never_underestimates(numbers: list[int]) -> None:
    sketch = make_sketch()
    for number in numbers:
        sketch.add(digest(number))
    for number, uses in Counter(numbers).items():
        assert sketch.estimate(digest(number)) >= min(4 * uses, FULL)


@given(st.lists(st.text("0123456789abcdef", min_size=18, max_size=18), min_size=1, max_size=60))
def test_digests_that_share_counters_are_not_underestimated_either(starts: list[str]) -> None:
    # Few values of each part make digests meet in some rows.
    names = [Digest("".join(sign * 9 for sign in start[:2]) + "0" * 46) for start in starts]
    sketch = make_sketch()
    for name in names:
        sketch.add(name)
    for name, uses in Counter(names).items():
        assert sketch.estimate(name) >= min(4 * uses, FULL)


def test_many_digests_are_told_apart() -> None:
    rng, sketch = random.Random(0), make_sketch()
    names = [digest(number) for number in range(20_000)]
    uses = Counter(int(20_000 * rng.random() ** 3) for _ in range(60_000))
    for number, count in uses.items():
        for _ in range(count):
            sketch.add(names[number])
    wrong = sum(
        sketch.estimate(names[number]) != min(4 * count, FULL) for number, count in uses.items()
    )
    assert wrong < 20


def test_counts_stop_at_the_highest() -> None:
    sketch = make_sketch()
    for _ in range(300):
        sketch.add(digest(1))
    assert sketch.estimate(digest(1)) == FULL


def test_ageing_takes_a_quarter_for_each_period() -> None:
    sketch = make_sketch()
    for _ in range(8):
        sketch.add(digest(1))
    for _ in range(8):
        sketch.add(digest(2))
    sketch.age(3)
    assert sketch.estimate(digest(1)) == 32
    sketch.age(1)
    assert [sketch.estimate(digest(number)) for number in (1, 2, 3)] == [18, 18, 0]
    sketch.age(1)
    assert sketch.estimate(digest(1)) == 18


def test_enough_ageing_forgets_all() -> None:
    sketch = make_sketch()
    for number in range(1_000):
        sketch.add(digest(number % 3))
    sketch.age(0)
    assert [sketch.estimate(digest(number)) for number in range(3)] == [0, 0, 0]


def test_a_buffer_that_is_no_sketch_is_refused() -> None:
    assert is_sketch(EMPTY_SKETCH)
    assert not is_sketch(EMPTY_SKETCH[:-1])
    with pytest.raises(ValueError, match="no frequency sketch"):
        FrequencySketch(memoryview(bytearray(SKETCH_BYTES)))
