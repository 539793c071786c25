"""SLOs for a run: `ttft_p95_s=0.5` is a most, `tokens_per_s=100` a least."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loadtest.plan import ALL
from loadtest.summary import METRICS, RATE_METRICS, RUN_METRICS

_FORM = re.compile(r"(?P<metric>[a-z][a-z0-9_-]*)=(?P<limit>[0-9.eE+-]+)")


@dataclass(frozen=True, slots=True)
class Slo:
    """A bound on one metric: the least where more is better, else the most."""

    metric: str
    limit: float

    @property
    def is_least(self) -> bool:
        """More is better."""
        return self.metric.endswith(RATE_METRICS)

    def is_met(self, value: float | None) -> bool:
        """Whether `value` keeps to it. What was not measured does not."""
        if value is None:
            return False
        return value >= self.limit if self.is_least else value <= self.limit

    def __str__(self) -> str:
        return f"{self.metric} {'>=' if self.is_least else '<='} {self.limit:g}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One SLO and what was measured; None where nothing was."""

    slo: Slo
    value: float | None

    @property
    def is_met(self) -> bool:
        """See `Slo.is_met`."""
        return self.slo.is_met(self.value)


def parse_slo(text: str, groups: Sequence[str]) -> Slo:
    """`METRIC=LIMIT`; the metric of one of `groups` has its name in front.

    Raises ValueError that names the metrics there are.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"an SLO is METRIC=LIMIT, such as ttft_p95_s=0.5, not '{text}'")
    known = {*METRICS, *RUN_METRICS, *(f"{g}_{m}" for g in groups if g != ALL for m in METRICS)}
    if found["metric"] not in known:
        prefixes = ", ".join(sorted(set(groups) - {ALL})) or "none here"
        raise ValueError(
            f"no metric '{found['metric']}'; there are {', '.join([*METRICS, *RUN_METRICS])},"
            f" and all but the last {len(RUN_METRICS)} of a group as GROUP_METRIC"
            f" (groups: {prefixes})"
        )
    try:
        return Slo(found["metric"], float(found["limit"]))
    except ValueError:
        raise ValueError(f"'{found['limit']}' is no number") from None


def judge(slos: Iterable[Slo], metrics: Mapping[str, float]) -> list[Verdict]:
    """Each SLO with what was measured."""
    return [Verdict(slo, metrics.get(slo.metric)) for slo in slos]
