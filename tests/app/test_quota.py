"""The arithmetic of quotas, on the model that the script is tested against."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.quota import (
    PERIOD_US,
    Bill,
    Charge,
    KeyUsage,
    Limit,
    Outcome,
    Release,
    Standing,
    charge_of,
    error_of,
    standing_of,
    tightest,
)
from contracts.access import Quota
from contracts.errors import InvalidRequest

LEASE_US = 10_000_000


def settle(usage: KeyUsage, quota: Quota, now_us: int, *charges: Charge) -> list[Outcome]:
    return usage.settle(Bill("k", quota, (), charges), now_us, LEASE_US)


@given(
    st.integers(1, 20),
    st.lists(st.integers(0, 20_000_000), min_size=1, max_size=60),
)
def test_no_span_of_time_has_more_requests_than_a_bucket_and_its_refill(
    limit: int, gaps_us: list[int]
) -> None:
    usage, quota, now_us, admitted = KeyUsage(), Quota(requests_per_min=limit), 0, list[int]()
    for number, gap_us in enumerate(gaps_us):
        now_us += gap_us
        [outcome] = settle(usage, quota, now_us, Charge(str(number), 1, 0))
        if outcome.refused is Limit.NONE:
            admitted.append(now_us)
        else:
            # What was refused passes after the wait that it was told, and not before.
            again = KeyUsage(usage.requests_full_us, usage.tokens_full_us)
            late = now_us + outcome.wait_us
            assert settle(again, quota, late - 1, Charge("x", 1, 0))[0].refused
            assert not settle(again, quota, late, Charge("y", 1, 0))[0].refused
    for first, begin in enumerate(admitted):
        for last in range(first, len(admitted)):
            span_us = admitted[last] - begin
            assert last - first + 1 <= limit + span_us * limit / PERIOD_US + 1e-6


def test_unused_tokens_come_back_and_overdrawn_ones_are_owed() -> None:
    usage, quota = KeyUsage(), Quota(tokens_per_min=100)
    assert not settle(usage, quota, 0, Charge("a", 1, 80))[0].refused
    assert settle(usage, quota, 0, Charge("b", 1, 30))[0].refused is Limit.TOKENS
    usage.settle(Bill("k", quota, (Release("a", 1, 80, 10),)), 0, LEASE_US)
    assert usage.tokens_full_us == 10 * PERIOD_US // 100
    assert not settle(usage, quota, 0, Charge("c", 1, 90))[0].refused
    usage.settle(Bill("k", quota, (Release("c", 1, 90, 190),)), 0, LEASE_US)
    assert usage.tokens_full_us == 2 * PERIOD_US


def test_what_is_reserved_is_the_most_that_may_be_used() -> None:
    assert charge_of("r", 10, 20, 3, Quota(tokens_per_min=1000)) == Charge("r", 3, 70)
    assert charge_of("r", 10, 20, 3, Quota()).num_tokens == 70
    # An answer that may be longer than a bucket reserves the whole bucket.
    assert charge_of("r", 10, 4000, 1, Quota(tokens_per_min=100)).num_tokens == 100


@pytest.mark.parametrize(
    ("quota", "match"),
    [
        (Quota(tokens_per_min=12), "needs 13 tokens"),
        (Quota(max_streams=2), "3 answers at a time"),
        (Quota(requests_per_min=0), "no requests"),
    ],
)
def test_what_can_never_pass_is_the_requests_fault(quota: Quota, match: str) -> None:
    with pytest.raises(InvalidRequest, match=match):
        charge_of("r", 10, 20, 3, quota)


def test_a_caller_is_told_what_is_left() -> None:
    quota = Quota(requests_per_min=10, tokens_per_min=100)
    [first, second] = settle(KeyUsage(), quota, 0, Charge("a", 1, 30), Charge("b", 1, 50))
    standings = [standing_of(first, quota), standing_of(second, quota)]
    assert standings == [
        Standing(10, 9, 6.0, 100, 70, 18.0),
        Standing(10, 8, 12.0, 100, 20, 48.0),
    ]
    assert tightest([*standings, None]) == standings[1]
    assert tightest([None]) is None
    refused = Outcome(Limit.TOKENS, 1_500_000, 0, 0)
    error = error_of(refused, quota)
    assert (error.retry_after_s, "100 tokens a minute" in error.message) == (1.5, True)
