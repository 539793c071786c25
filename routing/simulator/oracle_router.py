"""A greedy choice with perfect knowledge: how good could it get?"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from routing.simulator.engine import Engine
from routing.simulator.job import Job
from routing.simulator.router import Reports, Router, Surroundings

Floats = NDArray[np.float64]


class OracleRouter(Router):
    """Sends each request to where, of all replicas, its last token is predicted soonest.

    It sees the truth of this moment, with no delay and whatever other doors have just sent: who is
    up, all prompts without a first token, the sequences and their context, when a full replica's
    sequences end, who has the adapter on the device or in the node's cache, and how long this
    answer gets. It predicts the first token after the prompts that stand before it, its fetch and
    its own prompt, and all others at the pace of the present batch. It is not a bound: it serves
    one request after the other as suits that one best, knows none of those to come, and
    draws no lots for fetches, which take their median.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._profile = surroundings.profile
        self._facts = surroundings.facts
        self._engines: Mapping[int, Engine] = surroundings.engines

    def update(self, reports: Reports, now_s: float) -> None:
        """Knows already."""

    def place(self, jobs: Sequence[Job], now_s: float) -> Iterator[int]:
        """The soonest end, one request after the other."""
        if not self._facts.is_up.any():
            raise ValueError("there is no replica")
        return (self._choose(job) for job in jobs)

    def _choose(self, job: Job) -> int:
        return int(np.where(self._facts.is_up, self._ends_s(job), np.inf).argmin())

    def _ends_s(self, job: Job) -> Floats:
        """Seconds until its last token, [replicas]."""
        profile, facts = self._profile, self._facts
        batch = np.minimum(facts.ongoing, profile.max_num_seqs - 1) + 1
        context = facts.context_tokens + job.prompt_tokens + job.answer_tokens / 2
        step_s = profile.step_s + profile.sequence_s * batch + profile.context_token_s * context
        prompts = facts.prompt_tokens + job.prompt_tokens
        steps = np.ceil(prompts / profile.max_prefill_tokens)
        own_s = job.prompt_tokens * profile.prompt_token_s + step_s
        prefill_s = prompts * profile.prompt_token_s + steps * step_s
        wait_s = np.maximum(self._fetch_s(job.adapter), self._seat_s()) + own_s
        return np.maximum(prefill_s, wait_s) + (job.answer_tokens - 1) * step_s

    def _fetch_s(self, adapter: int) -> Floats:
        per_node = self._profile.replicas_per_node
        waits = np.full(len(self._facts.ongoing), self._profile.from_redis.p50_s)
        for number, node in enumerate(self._facts.nodes):
            if adapter in node:
                waits[number * per_node : (number + 1) * per_node] = self._profile.from_node.p50_s
        waits[list(self._facts.holders(adapter))] = 0.0
        return waits if adapter else np.zeros_like(waits)

    def _seat_s(self) -> Floats:
        waits = np.zeros(len(self._facts.ongoing))
        over = self._facts.ongoing - self._profile.max_num_seqs + 1
        for replica in np.flatnonzero((over > 0) & self._facts.is_up):
            waits[replica] = self._engines[int(replica)].seat_wait_s(int(over[replica]))
        return waits
