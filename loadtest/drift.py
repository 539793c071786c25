"""Whether something grew while a run lasted: its second quarter against its last one.

The first quarter is left out: caches and pools fill.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from statistics import median

from loadtest.outcome import Outcome
from loadtest.tally import Reading

SERVING_ROLES = ("door", "replica", "engine_core", "haproxy", "ray_llm", "server")
METRICS = ("rss_growth_share", "fds_growth", "ttft_p50_growth_share")

Sample = tuple[float, float]
"""Time and value."""


def drifts(
    outcomes: Sequence[Outcome], readings: Sequence[Reading], duration_s: float
) -> dict[str, float]:
    """What there are samples for of `METRICS`.

    Memory and file descriptors are those of the processes that serve, all together.
    """
    found = {}
    first_tokens = [(o.at_s, o.ttft_s) for o in outcomes if o.ttft_s is not None]
    memory = _sums((r.at_s, r.rss_bytes) for r in readings if r.role in SERVING_ROLES)
    files = _sums((r.at_s, r.num_fds) for r in readings if r.role in SERVING_ROLES)
    for name, samples in (("ttft_p50_growth_share", first_tokens), ("rss_growth_share", memory)):
        pair = _quarters(samples, duration_s)
        if pair is not None and pair[0] > 0:
            found[name] = pair[1] / pair[0] - 1
    if (pair := _quarters(files, duration_s)) is not None:
        found["fds_growth"] = pair[1] - pair[0]
    return found


def _sums(samples: Iterable[Sample]) -> list[Sample]:
    found: dict[float, float] = defaultdict(float)
    for at_s, value in samples:
        found[at_s] += value
    return sorted(found.items())


def _quarters(samples: Sequence[Sample], duration_s: float) -> tuple[float, float] | None:
    """Medians of the second and of the last quarter; None unless both have samples."""
    quarter_s = duration_s / 4
    second = [value for at_s, value in samples if quarter_s <= at_s < 2 * quarter_s]
    last = [value for at_s, value in samples if 3 * quarter_s <= at_s]
    return (median(second), median(last)) if second and last else None
