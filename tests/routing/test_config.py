import math
from typing import Any

import pytest

from routing.config import RoutingConfig

TIMES = ("grow_after_s", "report_max_age_s", "learned_s", "suspect_s")
AMOUNTS = ("slack_requests", "prefix_tokens", "max_prefixes")


@pytest.mark.parametrize("name", [*TIMES, *AMOUNTS])
def test_nothing_may_be_none_of_it(name: str) -> None:
    settings: dict[str, Any] = {name: 0}
    assert getattr(RoutingConfig(**settings), name) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, -1) for name in (*TIMES, *AMOUNTS, "shrink_after_s")),
        *((name, math.nan) for name in (*TIMES, "balance", "slack_requests", "shrink_after_s")),
        *((name, math.inf) for name in (*TIMES, "balance", "slack_requests", "shrink_after_s")),
        ("shrink_after_s", 0),
        ("balance", 1),
        ("max_homes", 0),
    ],
)
def test_what_makes_no_sense_is_refused_by_its_name(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=name):
        RoutingConfig(**settings)
