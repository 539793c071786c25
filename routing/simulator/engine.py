"""A continuous batch: who runs, step by step, and how long the steps take.

Steps that are alike are one event. While nobody's prompt is in the batch, every step gives each
sequence one token and takes the same time, so the time of the next change is known: the first
sequence to end, or the end of the step in which somebody comes. The result is that of an event a
step, at the price of an event a request.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from math import ceil
from typing import Protocol

import numpy as np

from routing.simulator.clock import Clock
from routing.simulator.job import Job
from routing.simulator.profile import Profile

_ROUNDING = 1e-9


class Listener(Protocol):
    """What an engine tells its replica."""

    def started(self, job: Job) -> None:
        """The sequence is in the batch."""

    def first_token(self, job: Job) -> None:
        """Its prompt is computed."""

    def ended(self, job: Job) -> None:
        """Its last token is there."""


class GapCounts:
    """How often which time lay between two tokens of one answer, by size within 2 %."""

    _LEAST_S, _FACTOR, _NUM = 1e-4, 1.02, 700

    def __init__(self) -> None:
        self._counts = [0] * self._NUM

    def add(self, gap_s: float, number: int) -> None:
        """So many gaps of that size."""
        size = int(np.log(max(gap_s, self._LEAST_S) / self._LEAST_S) / np.log(self._FACTOR))
        self._counts[min(size, self._NUM - 1)] += number

    def percentile_s(self, percent: float) -> float:
        """The gap that so many are not longer than; 0 without any."""
        total = sum(self._counts)
        if not total:
            return 0.0
        place = int(np.searchsorted(np.cumsum(self._counts), total * percent / 100))
        return float(self._LEAST_S * self._FACTOR ** (place + 0.5))


class Engine:
    """First come, first served; prompts go in chunks, beside the sequences that generate."""

    def __init__(self, profile: Profile, clock: Clock, listener: Listener, gaps: GapCounts) -> None:
        self._profile = profile
        self._clock = clock
        self._listener = listener
        self._gaps = gaps
        self._waiting: deque[Job] = deque()
        self._prompts: deque[Job] = deque()  # in the batch, before their first token
        self._decoding: list[tuple[int, int, Job]] = []  # heap by the step that ends them
        self._chunks: list[tuple[Job, int]] = []  # prompt tokens of the step that runs
        self._context_tokens = 0.0
        self._kv_tokens = 0
        self._step = 0  # steps that are over
        self._num_steps = 0  # of the stretch that runs; 0 while idle
        self._step_s = 0.0
        self._begun_s = 0.0
        self._stretch = 0  # tells the event of a stretch from those of stretches cut short
        self.busy_s = 0.0

    def __repr__(self) -> str:
        return f"<Engine {self.num_running} running, {len(self._waiting)} waiting>"

    @property
    def num_running(self) -> int:
        """Sequences in the batch."""
        return len(self._prompts) + len(self._decoding)

    @property
    def context_tokens(self) -> float:
        """Tokens in the KV cache that a step reads."""
        return self._context_tokens

    def add(self, job: Job) -> None:
        """A request that has all it needs."""
        job.prompt_left = job.prompt_tokens
        self._waiting.append(job)
        if not self._num_steps:
            self._begin()
        elif not self._chunks and self._has_room_for(self._waiting[0]):
            self._cut()

    def left_tokens(self) -> int:
        """What all its requests still need, prompts and answers."""
        begun = [*self._waiting, *self._prompts]
        left = sum(job.prompt_left + job.answer_tokens for job in begun)
        step = self._step_now()
        return left + sum(end - step for end, _, _ in self._decoding)

    def seat_wait_s(self, place: int) -> float:
        """When the `place`-th of its sequences ends, if nothing comes in between."""
        soonest = heapq.nsmallest(place, (end for end, _, _ in self._decoding))
        steps = (soonest[-1] if soonest else self._step) - self._step_now()
        return max(0, steps) * self._step_s

    def abort(self) -> Iterator[tuple[Job, int]]:
        """Every request that is here, with the tokens that it has had. The engine ends."""
        step = self._step_now()
        self._stretch += 1
        for job in (*self._waiting, *self._prompts):
            yield job, 0
        for end, _, job in self._decoding:
            yield job, job.answer_tokens - (end - step)

    def _has_room_for(self, job: Job) -> bool:
        if not self.num_running:
            return True
        tokens = self._kv_tokens + job.prompt_tokens + job.answer_tokens
        return (
            self.num_running < self._profile.max_num_seqs and tokens <= self._profile.max_kv_tokens
        )

    def _step_now(self) -> int:
        if self._chunks or not self._num_steps:
            return self._step
        passed = (self._clock.now_s - self._begun_s) / self._step_s
        return self._step + min(self._num_steps, int(passed + _ROUNDING))

    def _begin(self) -> None:
        while self._waiting and self._has_room_for(self._waiting[0]):
            job = self._waiting.popleft()
            self._kv_tokens += job.prompt_tokens + job.answer_tokens
            self._prompts.append(job)
            self._listener.started(job)
        self._chunks = list(self._next_chunks())
        if not self.num_running:
            self._num_steps = 0
            return
        tokens = sum(number for _, number in self._chunks)
        self._step_s = self._profile.step_time_s(len(self._decoding), tokens, self._context_tokens)
        self._num_steps = 1 if self._chunks else self._decoding[0][0] - self._step
        self._begun_s = self._clock.now_s
        self._schedule()

    def _next_chunks(self) -> Iterator[tuple[Job, int]]:
        room = self._profile.max_prefill_tokens
        for job in self._prompts:
            number = min(room, job.prompt_left)
            if not number:
                return
            room -= number
            yield job, number

    def _schedule(self) -> None:
        self._stretch += 1
        ends_s = self._begun_s + self._num_steps * self._step_s
        self._clock.at(ends_s, self._end, self._stretch)

    def _cut(self) -> None:
        """Let the stretch end with the step that runs."""
        passed = (self._clock.now_s - self._begun_s) / self._step_s
        num_steps = max(1, ceil(passed - _ROUNDING))
        if num_steps < self._num_steps:
            self._num_steps = num_steps
            self._schedule()

    def _end(self, stretch: int) -> None:
        if stretch != self._stretch:
            return
        self._step += self._num_steps
        self.busy_s += self._num_steps * self._step_s
        if self._decoding:
            self._gaps.add(self._step_s, len(self._decoding) * self._num_steps)
        for job, number in self._chunks:
            job.prompt_left -= number
            if not job.prompt_left:
                self._prompts.popleft()
                self._begin_decoding(job)
        while self._decoding and self._decoding[0][0] <= self._step:
            self._end_decoding(heapq.heappop(self._decoding)[2])
        self._begin()

    def _begin_decoding(self, job: Job) -> None:
        job.end_step = self._step + job.answer_tokens - 1
        heapq.heappush(self._decoding, (job.end_step, job.number, job))
        self._context_tokens += _mean_context_tokens(job)
        self._listener.first_token(job)

    def _end_decoding(self, job: Job) -> None:
        self._context_tokens -= _mean_context_tokens(job)
        self._kv_tokens -= job.prompt_tokens + job.answer_tokens
        self._listener.ended(job)


def _mean_context_tokens(job: Job) -> float:
    """Over the life of an answer, so that the steps of a stretch are alike."""
    return job.prompt_tokens + job.answer_tokens / 2
