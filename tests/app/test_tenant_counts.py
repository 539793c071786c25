"""Numbers by tenant: bounded in number, exact in sum, and theirs who use most."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from app.tenant_counts import OTHER, TenantCounts, TenantUse
from contracts.adapters import TENANT_NAME, TenantId

USES = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 50), st.integers(0, 20)), max_size=200)


def use(prompt: int, generated: int) -> TenantUse:
    return TenantUse(1, prompt, prompt // 2, generated)


def numbers(found: TenantUse) -> tuple[int, int, int, int]:
    return (
        found.num_requests,
        found.num_prompt_tokens,
        found.num_cached_tokens,
        found.num_generated_tokens,
    )


@given(st.integers(1, 5), USES)
def test_names_are_bounded_sums_exact_and_no_number_falls(
    max_tenants: int, uses: list[tuple[int, int, int]]
) -> None:
    counts = TenantCounts(max_tenants)
    total = TenantUse()
    before: dict[str, tuple[int, int, int, int]] = {}
    for tenant, prompt, generated in uses:
        counts.add(TenantId(f"t{tenant}"), use(prompt, generated))
        total.add(use(prompt, generated))
        shown = {name: numbers(found) for name, found in counts.items()}
        assert len(shown) <= max_tenants + 1
        assert max(len(counts._weights), len(counts._candidates)) <= max_tenants
        assert tuple(map(sum, zip(*shown.values(), strict=True))) == numbers(total)
        for name in shown.keys() & before.keys():
            assert all(a >= b for a, b in zip(shown[name], before[name], strict=True))
        before = shown


@given(st.lists(st.integers(0, 4), max_size=60))
def test_as_many_as_there_is_room_for_are_all_shown(tenants: list[int]) -> None:
    counts = TenantCounts(5)
    for tenant in tenants:
        counts.add(TenantId(str(tenant)), use(1, 1))
    shown = {name: found.num_requests for name, found in counts.items() if name != OTHER}
    assert shown == Counter(map(str, tenants))


def test_whoever_uses_most_is_shown_although_it_comes_late() -> None:
    counts = TenantCounts(3)
    for round_ in range(400):
        counts.add(TenantId(f"once{round_}"), use(1, 1))
        if round_ >= 100:
            counts.add(TenantId("heavy"), use(1, 1))
    shown = dict(counts.items())
    assert shown["heavy"].num_requests > 200


def test_equals_do_not_take_turns() -> None:
    counts = TenantCounts(2)
    names: set[frozenset[str]] = set()
    for round_ in range(500):
        counts.add(TenantId(f"t{round_ % 4}"), use(1, 1))
        if round_ >= 2:
            names.add(frozenset(name for name, _ in counts.items()))
    assert len(names) == 1


def test_no_tenant_can_be_called_other() -> None:
    assert TENANT_NAME.fullmatch(OTHER) is None
