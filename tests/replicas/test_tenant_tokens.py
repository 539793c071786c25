from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from replicas.tenant_tokens import OTHER, TenantTokens

CALLS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 50)), max_size=80)


@given(CALLS)
def test_nothing_is_lost_and_nothing_falls(calls: list[tuple[str, int]]) -> None:
    tokens, total, before = TenantTokens(max_labels=3, max_candidates=4), 0, Counter[str]()
    for tenant, count in calls:
        tokens.add(tenant, count)
        total += count
        now = tokens.counts()
        assert sum(now.values()) == total
        assert len(now) <= 4
        assert all(now[name] >= before[name] for name in now if name in before)
        before = Counter(now)


def test_the_largest_are_named() -> None:
    tokens = TenantTokens(max_labels=2, max_candidates=10)
    for number in range(10):
        tokens.add(f"small-{number}", 5)
    for _ in range(4):
        tokens.add("large", 100)
        tokens.add("larger", 200)
    assert set(tokens.counts()) == {"large", "larger", OTHER}


def test_however_many_come() -> None:
    tokens = TenantTokens(max_labels=2, max_candidates=3)
    for number in range(1000):
        tokens.add(f"tenant-{number}", 1)
    assert len(tokens.counts()) == 3
    assert len(tokens._candidates) <= 3
    assert tokens.counts()[OTHER] == 998
