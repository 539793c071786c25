import pytest

from loadtest.drift import drifts
from loadtest.tally import Reading
from tests.loadtest.loads import make_outcome


def readings(*rss_mb: float, num_fds: int = 10) -> list[Reading]:
    """One reading of two serving processes and a bystander a tenth of 100 seconds."""
    return [
        Reading(number * 10.0, role, int(size * 1e6), num_fds + number, 5)
        for number, size in enumerate(rss_mb)
        for role in ("door", "replica", "ray")
    ]


def test_the_last_quarter_is_compared_with_the_second() -> None:
    found = drifts([], readings(900, 500, 100, 100, 100, 150, 150, 150, 110, 110), 100.0)
    assert found["rss_growth_share"] == pytest.approx(0.1)
    # Between 30 s and 85 s, in two processes, one descriptor each ten seconds.
    assert found["fds_growth"] == pytest.approx(2 * 5.0)


def test_slower_first_tokens_show() -> None:
    fast = [make_outcome(at_s=float(s), ttft_s=0.1) for s in range(75)]
    slow = [make_outcome(at_s=float(s), ttft_s=0.2) for s in range(75, 100)]
    assert drifts(fast + slow, [], 100.0) == {"ttft_p50_growth_share": pytest.approx(1.0)}


def test_a_run_that_ended_early_has_no_drift() -> None:
    assert drifts([make_outcome(at_s=30.0)], readings(1, 1, 1), 100.0) == {}
