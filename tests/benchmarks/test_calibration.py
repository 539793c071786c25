import pytest

from benchmarks.calibration import (
    calibration_metrics,
    fitted_constants,
    record_metrics,
    simulated_batch,
    worst_error,
)
from routing.simulator.profile import CPU


def test_the_cpu_profile_is_what_the_fit_gives() -> None:
    constants = (CPU.step_s, CPU.sequence_s, CPU.prompt_token_s)
    assert constants == pytest.approx(fitted_constants(record_metrics("stack")), rel=0.01)


def test_waits_are_the_measured_ones() -> None:
    measured = record_metrics("cold-start")
    for name, wait in (("node", CPU.from_node), ("redis", CPU.from_redis)):
        assert wait.p50_s * 1e3 == pytest.approx(measured[f"{name}_added_ttft_ms_p50"], abs=0.05)
        assert wait.p95_s * 1e3 == pytest.approx(measured[f"{name}_added_ttft_ms_p95"], abs=0.05)


def test_predictions_of_what_was_not_fitted_are_within_a_quarter() -> None:
    assert worst_error(calibration_metrics()) < 0.25


def test_one_sequence_takes_a_prompt_and_63_steps() -> None:
    tokens_per_s, first_s, gap_s = simulated_batch(CPU, 1)
    assert first_s == pytest.approx(CPU.step_s + 64 * CPU.prompt_token_s)
    assert gap_s == pytest.approx(CPU.step_s + CPU.sequence_s, rel=0.02)
    assert 64 / tokens_per_s == pytest.approx(first_s + 63 * (CPU.step_s + CPU.sequence_s))
