import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadtest.exit_code import EXIT_FAILED, EXIT_SLO, exit_code
from loadtest.slo import Slo, judge, parse_slo
from loadtest.summary import METRICS, RUN_METRICS

known = st.sampled_from([*METRICS, *RUN_METRICS, *(f"quiet_{name}" for name in METRICS)])


@settings(max_examples=30)
@given(known, st.floats(0, 1e9))
def test_every_metric_may_be_bounded(metric: str, limit: float) -> None:
    assert parse_slo(f"{metric}={limit}", ["quiet", "noisy"]) == Slo(metric, limit)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ttft_p95_s", "METRIC=LIMIT"),
        ("ttft_p95_s=", "METRIC=LIMIT"),
        ("ttft_p95_s<0.5", "METRIC=LIMIT"),
        ("ttft_p95_s=nan", "METRIC=LIMIT"),
        ("ttft_p95_s=1e", "no number"),
        ("ttft_p96_s=1", "no metric 'ttft_p96_s'; there are ttft_p50_s"),
        ("cold_ttft_p95_s=1", "groups: quiet"),
        ("quiet_rss_growth_share=1", "no metric"),
    ],
)
def test_what_is_no_slo_says_why(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_slo(text, ["quiet", "all"])


def test_times_have_a_most_and_rates_a_least() -> None:
    assert Slo("ttft_p95_s", 0.5).is_met(0.5)
    assert not Slo("ttft_p95_s", 0.5).is_met(0.51)
    assert Slo("quiet_tokens_per_s", 100).is_met(100)
    assert not Slo("tokens_per_s", 100).is_met(99)
    assert str(Slo("tokens_per_s", 100)) == "tokens_per_s >= 100"
    assert str(Slo("gap_p50_s", 0.1)) == "gap_p50_s <= 0.1"


def test_what_was_not_measured_is_missed() -> None:
    (verdict,) = judge([Slo("ttft_p95_s", 9.0)], {"tokens_per_s": 3.0})
    assert (verdict.value, verdict.is_met) == (None, False)


@pytest.mark.parametrize(
    ("slo", "changes", "code"),
    [
        ("ttft_p95_s=1", {}, 0),
        ("ttft_p95_s=0.1", {}, EXIT_SLO),
        ("ttft_p95_s=1", {"failed_share": 0.1}, EXIT_FAILED),
        ("failed_share=0.2", {"failed_share": 0.1}, 0),
        ("failed_share=0.05", {"failed_share": 0.1}, EXIT_SLO),
        ("ttft_p95_s=1", {"failed_deeds": 1.0}, EXIT_FAILED),
        ("ttft_p95_s=1", {"unsent_requests": 1.0}, EXIT_FAILED),
        ("ttft_p95_s=1", {"requests": 0.0}, EXIT_FAILED),
    ],
)
def test_slos_and_faults_have_codes_of_their_own(
    slo: str, changes: dict[str, float], code: int
) -> None:
    metrics = {"requests": 5.0, "ttft_p95_s": 0.5, "failed_share": 0.0, **changes}
    assert exit_code(metrics, judge([parse_slo(slo, [])], metrics)) == code
