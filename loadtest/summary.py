"""All outcomes of a run as numbers with names: what a record holds and an SLO is about."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from loadtest import drift
from loadtest.outcome import Outcome
from loadtest.plan import ALL, Plan
from loadtest.quantiles import POINTS, points
from loadtest.tally import Tally

_TIMES = ("ttft", "gap", "total", "lag")
TIME_METRICS = tuple(f"{time}_{point}_s" for time in _TIMES for point in POINTS)
RATE_METRICS = ("tokens_per_s", "requests_per_s", "stream_tokens_per_s_p50")
"""Those of which more is better."""
METRICS = (*TIME_METRICS, *RATE_METRICS, "failed_share")
"""What every run, and every group of it under `GROUP_`, may have."""
RUN_METRICS = (*drift.METRICS, "publish_p95_s", "failed_deeds", "unsent_requests")
"""What a run as a whole may have beside them."""

MOST_NAMED = 32
OTHERS = "others"

Rows = dict[str, Counter[str]]


def summarise(tally: Tally, plan: Plan) -> dict[str, float]:
    """Everything of `METRICS` that there are samples of, for all requests and for each group, and
    of `RUN_METRICS`.

    Rates are over the plan's duration or, where requests ended later, until the last one did.
    """
    outcomes, duration_s = tally.outcomes, plan.duration_s
    found = dict(_of_group(outcomes, duration_s))
    found |= drift.drifts(outcomes, tally.readings, duration_s)
    took_s = [deed.seconds for deed in tally.deeds if deed.kind == "publish" and not deed.error]
    found |= {"publish_p95_s": points(took_s)["p95"]} if took_s else {}
    found["failed_deeds"] = float(sum(bool(deed.error) for deed in tally.deeds))
    crowd = plan.crowd.group if plan.crowd else ""
    num_sent = sum(outcome.group != crowd for outcome in outcomes)
    found["unsent_requests"] = float(max(len(plan.arrivals) - num_sent, 0))
    groups = by_group(outcomes)
    for group in sorted(set(groups) - {ALL} if len(groups) > 1 else set()):
        found |= {f"{group}_{k}": v for k, v in _of_group(groups[group], duration_s).items()}
    return found


def by_group(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Outcomes by their group."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        found[outcome.group].append(outcome)
    return found


def by_adapter(outcomes: Iterable[Outcome], name_of: Callable[[int], str]) -> Rows:
    """How often each adapter answered with which code; the most asked ones by name, then the
    others together.
    """
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for outcome in outcomes:
        found[outcome.adapter][outcome.code] += 1
    ranked = sorted(found, key=lambda adapter: (-found[adapter].total(), adapter))
    rows = {name_of(adapter): found[adapter] for adapter in ranked[:MOST_NAMED]}
    if rest := ranked[MOST_NAMED:]:
        rows[OTHERS] = sum((found[adapter] for adapter in rest), Counter())
    return rows


def failures(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How often what went wrong."""
    return Counter(outcome.code for outcome in outcomes if not outcome.is_ok)


def _of_group(outcomes: Sequence[Outcome], duration_s: float) -> Mapping[str, float]:
    if not outcomes:
        return {"requests": 0.0}
    good = [outcome for outcome in outcomes if outcome.is_ok]
    until_s = max(duration_s, *(outcome.ended_s for outcome in outcomes))
    speeds = [speed for outcome in good if (speed := outcome.tokens_per_s) is not None]
    samples = {
        # Whoever failed before the first token has none; how many did is the failed share.
        "ttft": [outcome.ttft_s for outcome in outcomes if outcome.ttft_s is not None],
        "gap": list(chain.from_iterable(outcome.gaps_s for outcome in outcomes)),
        "total": [outcome.total_s for outcome in good],
        "lag": [outcome.lag_s for outcome in outcomes],
    }
    found = {
        "requests": float(len(outcomes)),
        "failed_share": 1 - len(good) / len(outcomes),
        "requests_per_s": len(good) / until_s,
        "tokens_per_s": sum(outcome.num_tokens for outcome in outcomes) / until_s,
    }
    if speeds:
        found["stream_tokens_per_s_p50"] = points(speeds)["p50"]
    for name, values in samples.items():
        found |= {f"{name}_{point}_s": value for point, value in points(values).items()}
    return found
