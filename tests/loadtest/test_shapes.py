from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.plan import Plan, share
from loadtest.shapes import COLD, NOISY, QUIET, SHAPES, WARM, make_plan
from tests.loadtest.loads import make_load, rng, write_traces

SYNTHETIC = sorted(set(SHAPES) - {"azure", "mooncake"})


def plan(name: str, **changes: object) -> Plan:
    return make_plan(name, make_load(**changes), rng())


@settings(max_examples=25)
@given(st.sampled_from(SYNTHETIC), st.floats(1, 60), st.floats(0.5, 20), st.integers(2, 100))
def test_every_plan_keeps_to_its_time_its_order_and_its_adapters(
    name: str, duration_s: float, rate: float, num_adapters: int
) -> None:
    made = plan(name, duration_s=duration_s, rate=rate, num_adapters=num_adapters)
    for moments in ([a.at_s for a in made.arrivals], [a.at_s for a in made.actions]):
        assert moments == sorted(moments)
        assert all(0 <= at_s <= duration_s + 1 for at_s in moments)
    asks = [arrival.ask for arrival in made.arrivals] + list(made.crowd.asks if made.crowd else ())
    assert asks or made.duration_s * rate < 20
    assert all(-1 <= ask.adapter < num_adapters and ask.num_answer_tokens > 0 for ask in asks)
    assert {ask.group for ask in asks} <= set(made.groups)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_a_seed_decides_the_plan(name: str, tmp_path: Path) -> None:
    load = make_load(data=write_traces(tmp_path), rate=1.0, duration_s=20.0)
    assert make_plan(name, load, rng(1)) == make_plan(name, load, rng(1))
    assert make_plan(name, load, rng(1)) != make_plan(name, load, rng(2))


@given(st.integers(1, 7))
def test_shares_are_the_whole_plan(count: int) -> None:
    arrivals = plan("poisson-8").arrivals
    parts = [share(arrivals, index, count) for index in range(count)]
    assert sorted(sum(parts, ()), key=lambda a: a.at_s) == list(arrivals)


@pytest.mark.parametrize(("name", "rate"), [("poisson-8", 8.0), ("poisson-15", 15.0)])
def test_named_rates_are_the_defaults(name: str, rate: float) -> None:
    assert SHAPES[name].rate == rate
    made = plan(name, rate=rate, duration_s=400.0)
    assert len(made.arrivals) / 400 == pytest.approx(rate, rel=0.06)


def test_bursts_stand_out() -> None:
    times = np.array([a.at_s for a in plan("burst", rate=5.0, duration_s=40.0).arrivals])
    moments, counts = np.unique(times, return_counts=True)
    assert moments[counts > 1].tolist() == [5.0, 15.0, 25.0, 35.0]
    assert counts.max() == 20


def test_each_cold_adapter_is_asked_for_once_in_the_storm_and_never_before() -> None:
    made = plan("cold-start", num_adapters=40, duration_s=40.0)
    cold = [a for a in made.arrivals if a.ask.group == COLD]
    assert sorted(a.ask.adapter for a in cold) == list(range(20, 40))
    assert all(10 <= a.at_s <= 11 for a in cold)
    assert all(a.ask.adapter < 20 for a in made.arrivals if a.ask.group == WARM)


def test_the_noisy_tenant_waits_for_answers_and_the_quiet_one_does_not() -> None:
    made = plan("noisy", num_users=5)
    assert made.crowd is not None
    assert (made.crowd.group, made.num_users) == (NOISY, 5)
    assert {a.ask.group for a in made.arrivals} == {QUIET}


def test_users_of_a_crowd_ask_different_things_at_a_time() -> None:
    crowd = plan("steady", num_users=4).crowd
    assert crowd is not None
    assert len({crowd.ask_of(user, turn) for user in range(4) for turn in range(50)}) == 200


def test_two_replicas_are_killed() -> None:
    actions = plan("replica-loss", duration_s=100.0).actions
    assert [(action.kind, action.at_s) for action in actions] == [("kill", 30.0), ("kill", 60.0)]


@pytest.mark.parametrize("name", ["cold-start", "churn", "soak"])
def test_shapes_that_publish_need_adapters(name: str) -> None:
    with pytest.raises(ValueError, match="two adapters at least"):
        plan(name, num_adapters=1)
