from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.policies import Belady, Fifo, Lfu, Lru, Policy, Sieve
from benchmarks.resistant_policies import Arc, S3Fifo, TinyLfu

TRACES = st.lists(st.integers(0, 30), max_size=300)
ONLINE = (Fifo, Lru, Lfu, Sieve, S3Fifo, TinyLfu, Arc)


def hits(policy: Policy, trace: list[int]) -> list[bool]:
    return [policy.use(key) for key in trace]


def string(policy: Policy, trace: str) -> str:
    """What hit, as the capitals of a trace of letters."""
    found = hits(policy, [ord(letter) for letter in trace])
    return "".join(
        letter.upper() if hit else letter for letter, hit in zip(trace, found, strict=True)
    )


@pytest.mark.parametrize("make", ONLINE)
@given(trace=TRACES, capacity=st.integers(2, 20))
def test_no_policy_beats_the_optimum_and_none_hits_at_first_sight(
    make: Callable[[int], Policy], trace: list[int], capacity: int
) -> None:
    found = hits(make(capacity), trace)
    assert not any(hit for at, hit in enumerate(found) if trace[at] not in trace[:at])
    assert sum(found) <= sum(hits(Belady(capacity, trace), trace))


@pytest.mark.parametrize("make", [Fifo, Lru, Lfu, Sieve, S3Fifo, Arc])
@given(trace=st.lists(st.integers(0, 9), max_size=100))
def test_what_fits_is_missed_once(make: Callable[[int], Policy], trace: list[int]) -> None:
    assert sum(hits(make(10), trace)) == len(trace) - len(set(trace))


@pytest.mark.parametrize(
    ("policy", "trace"),
    [
        (Fifo(2), "abAca"),
        (Lru(2), "abAcAb"),
        (Lfu(2), "abAAcAbA"),
        # The hand spares the visited a, takes b, stands at c and takes it next.
        (Sieve(3), "abcAdAeAD"),
        (Belady(2, [ord(letter) for letter in "abcab"]), "abcAb"),
    ],
)
def test_known_traces(policy: Policy, trace: str) -> None:
    assert string(policy, trace.lower()) == trace
