"""What scripts see of a run."""

from collections.abc import Mapping, Sequence

from loadtest.slo import Verdict

EXIT_FAILED = 1
EXIT_SLO = 4
"""An SLO was missed. None of locust's own: 1 is a failure, 2 a fault of locust."""

_FAULTS = ("failed_share", "failed_deeds", "unsent_requests")


def exit_code(metrics: Mapping[str, float], verdicts: Sequence[Verdict]) -> int:
    """SLOs first, then faults that no SLO speaks of, and runs without a request."""
    if not all(verdict.is_met for verdict in verdicts):
        return EXIT_SLO
    bounded = {verdict.slo.metric for verdict in verdicts}
    has_fault = any(metrics.get(name, 0.0) > 0 for name in _FAULTS if name not in bounded)
    return EXIT_FAILED if has_fault or not metrics.get("requests") else 0
