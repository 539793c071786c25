import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.outcome import Outcome
from loadtest.plan import Arrival, Crowd, Plan
from loadtest.shapes import NOISY, QUIET
from loadtest.summary import METRICS, OTHERS, RUN_METRICS, by_adapter, failures, summarise
from loadtest.tally import Deed, Tally
from tests.loadtest.loads import make_ask, make_outcome


def plan_of(count: int, duration_s: float = 10.0) -> Plan:
    return Plan(duration_s, tuple(Arrival(float(i), make_ask()) for i in range(count)))


def test_rates_are_over_the_time_until_the_last_answer() -> None:
    tally = Tally([make_outcome(at_s=1.0), make_outcome(at_s=18.9)])
    found = summarise(tally, plan_of(2))
    assert found["tokens_per_s"] == pytest.approx(22 / 20)
    assert found["requests_per_s"] == pytest.approx(2 / 20)
    assert found["stream_tokens_per_s_p50"] == pytest.approx(10.0)
    assert found["unsent_requests"] == 0


def test_failures_count_and_do_not_flatter() -> None:
    lost = make_outcome(code="timeout", ttft_s=None, total_s=120.0, num_tokens=0, gaps_s=())
    slow = make_outcome(code="broken", ttft_s=30.0, total_s=31.0, num_tokens=3)
    found = summarise(Tally([make_outcome(), make_outcome(), lost, slow]), plan_of(5))
    assert found["failed_share"] == 0.5
    assert found["ttft_max_s"] == 30.0
    assert found["total_max_s"] == 1.1
    assert found["unsent_requests"] == 1
    assert failures([lost, slow, lost]) == {"timeout": 2, "broken": 1}


def test_groups_have_metrics_of_their_own_where_there_are_several() -> None:
    outcomes = [make_outcome(group=QUIET), make_outcome(group=NOISY, ttft_s=0.9)]
    crowd = Crowd(NOISY, 1, (make_ask(group=NOISY),))
    found = summarise(Tally(outcomes), Plan(10.0, (Arrival(0, make_ask(group=QUIET)),), crowd))
    assert (found["quiet_ttft_p95_s"], found["noisy_ttft_p95_s"]) == (0.1, 0.9)
    assert found["unsent_requests"] == 0
    assert not [name for name in summarise(Tally(outcomes[:1]), plan_of(1)) if "quiet" in name]


outcomes = st.lists(
    st.builds(
        make_outcome,
        at_s=st.floats(0, 10),
        group=st.sampled_from(["all", "cold"]),
        ttft_s=st.none() | st.floats(0, 1),
        num_tokens=st.integers(0, 50),
        code=st.sampled_from(["ok", "timeout"]),
    )
)


@settings(max_examples=30)
@given(outcomes)
def test_every_metric_is_one_that_an_slo_may_name(found: list[Outcome]) -> None:
    metrics = summarise(Tally(found), plan_of(len(found)))
    known = {*METRICS, *RUN_METRICS, "requests"}
    assert {name.removeprefix("cold_").removeprefix("all_") for name in metrics} <= known
    assert metrics["requests"] == len(found)


@settings(max_examples=30)
@given(outcomes)
def test_every_outcome_is_some_adapters(found: list[Outcome]) -> None:
    rows = by_adapter(found, str)
    assert sum(row.total() for row in rows.values()) == len(found)


def test_the_most_asked_adapters_have_names_and_the_rest_is_together() -> None:
    many = [make_outcome(adapter=n) for n in range(40) for _ in range(40 - n)]
    rows = by_adapter(many, lambda number: f"a{number}")
    assert list(rows)[:2] == ["a0", "a1"]
    assert len(rows) == 33
    assert rows[OTHERS].total() == sum(range(1, 9))


def test_publishes_are_timed_and_failed_deeds_counted() -> None:
    deeds = [Deed(1.0, "publish", "a", 0.2), Deed(2.0, "kill", "", error="nobody")]
    found = summarise(Tally([make_outcome()], deeds), plan_of(1))
    assert (found["publish_p95_s"], found["failed_deeds"]) == (0.2, 1)
