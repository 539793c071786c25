from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from replicas.longest_queue import LongestQueue


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())))
def test_it_knows_the_longest(changes: list[tuple[str, bool]]) -> None:
    queue, lengths = LongestQueue(), Counter[str]()
    for name, grows in changes:
        if grows or lengths[name]:
            lengths[name] += 1 if grows else -1
            queue.change(name, lengths[name])
        assert queue.max_length == max(lengths.values(), default=0)
        if queue.max_length:
            assert lengths[queue.longest()] == queue.max_length
