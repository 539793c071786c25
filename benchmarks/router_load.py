"""Puts load on one side of the routers' comparison, and says what became of it."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from benchmarks.arrivals import MEAN_ANSWER, MEAN_PROMPT, Arrival
from benchmarks.ray_fleet import Counts
from benchmarks.ray_sides import Side
from contracts.adapters import AdapterKey
from contracts.generation import GenerateRequest, Sampling, TokenDelta

_TOKEN_IDS = (1000, 40_000)


@dataclass
class Tally:
    """What was heard: seconds to first tokens, answer tokens, requests that failed."""

    ttft_s: list[float] = field(default_factory=list)
    num_tokens: int = 0
    num_failed: int = 0


class Load:
    """Asks `side` for adapters by their numbers; `tally` may be replaced at any time."""

    def __init__(self, side: Side, keys: Sequence[AdapterKey], rng: np.random.Generator) -> None:
        self._side = side
        self._keys = keys
        self._rng = rng
        self._ids = count()
        self.tally = Tally()

    async def ask(self, arrival: Arrival) -> None:
        """One request, to its end."""
        tally, started_s = self.tally, time.perf_counter()
        has_begun = False

        def hear(delta: TokenDelta) -> None:
            nonlocal has_begun
            tally.num_failed += delta.error is not None
            if delta.token_ids and not has_begun:
                has_begun = True
                tally.ttft_s.append(time.perf_counter() - started_s)
            # Of what counts now, whenever the request came.
            self.tally.num_tokens += len(delta.token_ids)

        await self._side.ask(self._request(arrival), hear)

    async def follow(self, arrivals: Sequence[Arrival]) -> float:
        """Each at its time, whatever became of those before; seconds until the last is over."""
        began_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for arrival in arrivals:
                await asyncio.sleep(max(0.0, began_s + arrival.at_s - time.perf_counter()))
                group.create_task(self.ask(arrival))
        return time.perf_counter() - began_s

    async def saturate(
        self, adapters: Iterator[int], num_clients: int, warm_s: float, seconds: float
    ) -> float:
        """Always `num_clients` requests of mean size; tokens per second after `warm_s`."""
        ends_s = time.perf_counter() + warm_s + seconds

        async def again() -> None:
            while time.perf_counter() < ends_s:
                await self.ask(Arrival(0.0, next(adapters), MEAN_PROMPT, MEAN_ANSWER))

        async with asyncio.TaskGroup() as group:
            for _ in range(num_clients):
                group.create_task(again())
            await asyncio.sleep(warm_s)
            before, began_s = self.tally.num_tokens, time.perf_counter()
            await asyncio.sleep(seconds)
            took_s = time.perf_counter() - began_s
            num_tokens = self.tally.num_tokens - before
        return num_tokens / took_s

    def _request(self, arrival: Arrival) -> GenerateRequest:
        prompt = self._rng.integers(*_TOKEN_IDS, arrival.num_prompt_tokens).tolist()
        sampling = Sampling(arrival.num_answer_tokens, temperature=0.0, ignore_eos=True)
        key = self._keys[arrival.adapter]
        return GenerateRequest(f"r{next(self._ids)}", key, tuple(prompt), sampling)


def shares_of(before: Sequence[Counts], after: Sequence[Counts]) -> dict[str, float]:
    """Hit rates of both tiers and how far the busiest replica is above the mean, by metric.

    `before` and `after` have the replicas in one order. Loads are compared ten times a second, and
    weigh as much as there was to do.
    """
    num_requests = [counts.num_requests for counts in after]
    hits = sum(new.slot_hits - old.slot_hits for old, new in zip(before, after, strict=True))
    misses = sum(new.slot_misses - old.slot_misses for old, new in zip(before, after, strict=True))
    ticks = set[int].intersection(*(set(counts.loads) for counts in after))
    loads = np.array([[counts.loads[tick] for counts in after] for tick in sorted(ticks)])
    total = max(1, sum(num_requests))
    return {
        "slot_hit_rate": hits / max(1, hits + misses),
        "node_hit_rate": sum(counts.node_hits for counts in after) / total,
        "request_imbalance": max(num_requests) * len(after) / total,
        "load_imbalance": imbalance(loads),
    }


def imbalance(loads: "np.ndarray[tuple[int, int], np.dtype[np.int64]]") -> float:
    """Sum of the busiest replica's loads over the sum of the means; [samples, replicas]."""
    if not loads.any():
        return 1.0
    return float(loads.max(axis=1).sum() / loads.mean(axis=1).sum())


def times_of(tally: Tally) -> dict[str, float]:
    """Percentiles of the first tokens' times in milliseconds, by metric."""
    points = np.percentile(np.array(tally.ttft_s) * 1e3, (50, 95, 99))
    return {
        f"ttft_p{name}_ms": float(point) for name, point in zip((50, 95, 99), points, strict=True)
    }
