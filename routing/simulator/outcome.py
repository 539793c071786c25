"""What a run comes to, in numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import isnan

import numpy as np

from routing.simulator.job import DEVICE, NODE, REDIS, Job
from routing.simulator.run import Trail

MOVE_WINDOW_S = 5.0
_WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the requests that came after the warm-up, except where it says the whole run.

    Rates of hits are shares of the requests: the adapter was on the device, in the node's cache,
    or in Redis alone. `reuse_*` count those alone whose adapter had been asked for before in the
    run: no router could have the others on a device. `imbalance` is the mean, over time, of the
    largest over the mean of what replicas have left to do. `moved_share` is the share of adapters
    asked for in the 5 s before an event and in the 5 s after it that no replica served both times;
    before the first event, or without any, the same around the middle of the run. Gaps, busy
    share and reports are those of the whole run; a report's adapter counts 8 bytes.
    """

    requests: int
    device_hit_rate: float
    node_hit_rate: float
    redis_rate: float
    reuse_device_hit_rate: float
    reuse_redis_rate: float
    imbalance: float
    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    latency_p50_s: float
    latency_p99_s: float
    gap_p50_s: float
    gap_p99_s: float
    tokens_per_s: float
    busy_share: float
    moved_share: float
    usual_moved_share: float
    resent: int
    redis_fetches_per_s: float
    reports_bytes_per_s: float
    adapters_per_report: float

    def metrics(self) -> dict[str, float]:
        """By name, each with its unit."""
        return {name: float(value) for name, value in asdict(self).items()}


def outcome_of(trail: Trail, warm_share: float = 0.25) -> Outcome:
    """The numbers of a run whose first `warm_share` of time is not counted."""
    ends_s = trail.jobs[-1].arrived_s
    warm_s = ends_s * warm_share
    jobs = [job for job in trail.jobs if job.arrived_s >= warm_s]
    waits = np.array([job.first_token_s - job.arrived_s for job in jobs])
    lives = np.array([job.ended_s - job.arrived_s for job in jobs])
    all_tiers = _shares(jobs)
    reused = _shares(_reused(trail.jobs, warm_s))
    middle_s = warm_s + (ends_s - warm_s) / 2
    event_s = [event.at_s for event in trail.scene.events]
    usual_s = min(event_s) - MOVE_WINDOW_S if event_s else middle_s
    samples = zip(trail.sampled_s, trail.imbalance, strict=True)
    imbalance = [ratio for time_s, ratio in samples if warm_s <= time_s <= ends_s]
    over_s = max(job.ended_s for job in trail.jobs)
    return Outcome(
        requests=len(jobs),
        device_hit_rate=all_tiers[DEVICE],
        node_hit_rate=all_tiers[NODE],
        redis_rate=all_tiers[REDIS],
        reuse_device_hit_rate=reused[DEVICE],
        reuse_redis_rate=reused[REDIS],
        imbalance=float(np.mean(imbalance)) if imbalance else 1.0,
        ttft_p50_s=float(np.percentile(waits, 50)),
        ttft_p95_s=float(np.percentile(waits, 95)),
        ttft_p99_s=float(np.percentile(waits, 99)),
        latency_p50_s=float(np.percentile(lives, 50)),
        latency_p99_s=float(np.percentile(lives, 99)),
        gap_p50_s=trail.gaps.percentile_s(50),
        gap_p99_s=trail.gaps.percentile_s(99),
        tokens_per_s=_tokens_per_s(trail.jobs, warm_s, ends_s),
        busy_share=trail.busy_share,
        moved_share=_moved_share(trail.jobs, event_s or [usual_s]),
        usual_moved_share=_moved_share(trail.jobs, [usual_s]),
        resent=sum(job.num_losses for job in trail.jobs),
        redis_fetches_per_s=all_tiers[REDIS] * len(jobs) / (ends_s - warm_s),
        reports_bytes_per_s=trail.reported_adapters * _WORD_BYTES / over_s,
        adapters_per_report=trail.reported_adapters / max(1, trail.num_reports),
    )


def _shares(jobs: Sequence[Job]) -> list[float]:
    """Of the three tiers."""
    counts = np.bincount([job.tier for job in jobs], minlength=3)
    return [float(count) / max(1, len(jobs)) for count in counts]


def _reused(jobs: Iterable[Job], warm_s: float) -> list[Job]:
    """Those after the warm-up whose adapter had been asked for before."""
    seen: set[int] = set()
    reused = []
    for job in jobs:
        if job.arrived_s >= warm_s and job.adapter in seen:
            reused.append(job)
        seen.add(job.adapter)
    return reused


def _tokens_per_s(jobs: Iterable[Job], warm_s: float, ends_s: float) -> float:
    """Tokens of answers per second between two times; an answer's come evenly over its time."""
    tokens = 0.0
    for job in jobs:
        inside_s = min(job.ended_s, ends_s) - max(job.first_token_s, warm_s)
        life_s = job.ended_s - job.first_token_s
        share = inside_s / life_s if life_s else float(warm_s <= job.ended_s <= ends_s)
        tokens += (job.generated + job.answer_tokens) * max(0.0, share)
    return tokens / (ends_s - warm_s)


def _moved_share(jobs: Sequence[Job], events_s: Iterable[float]) -> float:
    """The mean over events; 0 where no adapter was asked for on both sides."""
    shares = []
    for event_s in events_s:
        before = _places(jobs, event_s - MOVE_WINDOW_S, event_s)
        after = _places(jobs, event_s, event_s + MOVE_WINDOW_S)
        both = before.keys() & after.keys()
        moved = sum(not before[adapter] & after[adapter] for adapter in both)
        shares.append(moved / len(both) if both else 0.0)
    return float(np.mean(shares))


def _places(jobs: Iterable[Job], from_s: float, to_s: float) -> dict[int, set[int]]:
    """Replicas that served each adapter."""
    places: dict[int, set[int]] = {}
    for job in jobs:
        if from_s <= job.arrived_s < to_s and not isnan(job.ended_s):
            places.setdefault(job.adapter, set()).add(job.replica)
    return places
