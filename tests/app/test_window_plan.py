"""Who may go ahead, and who is refused, as decided before anything is done."""

from hypothesis import given
from hypothesis import strategies as st

from app.ask import Ask
from app.quota import Standing
from app.window_plan import plan_window, split_ready
from contracts.access import Caller, Quota
from contracts.adapters import DEFAULT_TENANT, AdapterRef
from contracts.errors import RateLimited
from contracts.generation import Sampling

NEEDS = st.lists(st.tuples(st.booleans(), st.booleans()), max_size=8)


def make_ask(number: int, adapted: bool, limited: bool) -> Ask:
    ref = AdapterRef(DEFAULT_TENANT, "a") if adapted else None
    quota = Quota(9) if limited else Quota()
    caller = Caller("k", DEFAULT_TENANT, frozenset(), quota=quota)
    return Ask(f"r{number}", "tiny", ref, (1,), Sampling(1), caller)


@given(NEEDS, st.booleans(), st.booleans())
def test_each_waits_for_what_it_needs_and_for_nothing_else(
    needs: list[tuple[bool, bool]], is_resolved: bool, is_charged: bool
) -> None:
    asks = [make_ask(i, *need) for i, need in enumerate(needs)]
    ready, late = split_ready(asks, is_resolved, is_charged)
    assert sorted(a.request_id for a in ready + late) == sorted(a.request_id for a in asks)
    for ask, (adapted, limited) in zip(asks, needs, strict=True):
        assert (ask in late) == ((adapted and not is_resolved) or (limited and not is_charged))


def test_a_quota_refuses_before_a_name_is_unknown() -> None:
    asks = [make_ask(0, True, True), make_ask(1, False, True), make_ask(2, False, False)]
    limited = RateLimited("no")
    left = Standing(9, 8, 1.0, None, 0, 0.0)
    plan = plan_window(asks, {}, {"r0": limited, "r1": left})
    assert plan.refused == (("r0", limited),)
    assert [request.request_id for request in plan.groups[0]] == ["r1", "r2"]
