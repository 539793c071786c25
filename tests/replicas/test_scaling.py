import math
from typing import Any

import pytest

from replicas.scaling import ScalingConfig, replicas_for


@pytest.mark.parametrize(
    ("load_tokens", "expected"),
    [(0, 0), (0.5, 1), (100, 1), (100.5, 2), (200, 2), (201, 3), (10_000, 100)],
)
def test_no_replica_has_more_than_the_target(load_tokens: float, expected: int) -> None:
    assert replicas_for(load_tokens, 100) == expected


def test_the_number_stays_where_nobody_says_how_many_there_may_be() -> None:
    assert ScalingConfig().max_replicas is None


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"min_replicas": -1}, "min_replicas must not be negative, not -1"),
        ({"max_replicas": 0}, r"max_replicas \(0\)"),
        ({"min_replicas": 3, "max_replicas": 2}, r"max_replicas \(2\)"),
        ({"min_replicas": 0, "max_replicas": 0}, r"max_replicas \(0\)"),
        ({"target_load_tokens": 0}, "target_load_tokens"),
        ({"upscale_delay_s": -0.1}, "upscale_delay_s"),
        ({"downscale_delay_s": math.inf}, "downscale_delay_s"),
        ({"drain_s": math.nan}, "drain_s"),
        ({"health_check_period_s": 0}, "health_check_period_s"),
        ({"health_check_timeout_s": math.inf}, "health_check_timeout_s"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ScalingConfig(**wrong)


@pytest.mark.parametrize(
    "right",
    [
        {"min_replicas": 0, "max_replicas": 1},
        {"min_replicas": 2, "max_replicas": 2},
        {"upscale_delay_s": 0, "downscale_delay_s": 0, "drain_s": 0},
    ],
)
def test_the_bounds_themselves_are_allowed(right: dict[str, Any]) -> None:
    config = ScalingConfig(**right)
    assert {name: getattr(config, name) for name in right} == right
