"""The batch, against numbers worked out by hand and against an event a step."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.simulator.clock import Clock
from routing.simulator.engine import Engine, GapCounts
from routing.simulator.job import Job
from routing.simulator.profile import Profile
from tests.routing.simulator.scenes import TINY


class Notes:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.firsts_s: dict[int, float] = {}
        self.ends_s: dict[int, float] = {}

    def started(self, job: Job) -> None: ...

    def first_token(self, job: Job) -> None:
        self.firsts_s[job.number] = self._clock.now_s

    def ended(self, job: Job) -> None:
        self.ends_s[job.number] = self._clock.now_s


def play(profile: Profile, requests: list[tuple[float, int, int]]) -> tuple[Notes, Engine]:
    """Requests as (time, prompt tokens, answer tokens)."""
    clock = Clock()
    notes = Notes(clock)
    engine = Engine(profile, clock, notes, GapCounts())
    for number, (time_s, prompt, answer) in enumerate(requests):
        clock.at(time_s, engine.add, Job(number, 0, time_s, 0, prompt, answer))
    clock.run(lambda: len(notes.ends_s) == len(requests))
    return notes, engine


def step_by_step(profile: Profile, requests: list[tuple[float, int, int]]) -> Notes:
    """The same rules with a turn of the loop for every step: slow, and nothing to get wrong."""
    clock = Clock()
    notes = Notes(clock)
    waiting = [Job(n, 0, t, 0, p, a, prompt_left=p) for n, (t, p, a) in enumerate(requests)]
    batch: list[Job] = []
    given_tokens = dict.fromkeys(range(len(requests)), 0)
    while waiting or batch:
        if not batch:
            clock.now_s = max(clock.now_s, waiting[0].arrived_s)
        while waiting and waiting[0].arrived_s <= clock.now_s + 1e-9:
            kv = sum(j.prompt_tokens + j.answer_tokens for j in [*batch, waiting[0]])
            if batch and (len(batch) == profile.max_num_seqs or kv > profile.max_kv_tokens):
                break
            batch.append(waiting.pop(0))
        decoding = [job for job in batch if not job.prompt_left]
        room = profile.max_prefill_tokens
        chunks = []
        for job in batch:
            number = min(room, job.prompt_left)
            room -= number
            chunks.append(number)
        context = sum(job.prompt_tokens + job.answer_tokens / 2 for job in decoding)
        clock.now_s += profile.step_time_s(len(decoding), sum(chunks), context)
        for job, number in zip(list(batch), chunks, strict=True):
            job.prompt_left -= number
            if job in decoding or (number and not job.prompt_left):
                given_tokens[job.number] += 1
                if given_tokens[job.number] == 1:
                    notes.first_token(job)
                if given_tokens[job.number] == job.answer_tokens:
                    notes.ended(job)
                    batch.remove(job)
    return notes


def test_one_request_takes_its_steps() -> None:
    notes, engine = play(TINY, [(0.0, 15, 3)])
    # 10 prompt tokens, 5 prompt tokens, then two steps with one sequence.
    assert notes.firsts_s[0] == pytest.approx(1.1 + 1.05)
    assert notes.ends_s[0] == pytest.approx(1.1 + 1.05 + 2 * 1.1)
    assert engine.busy_s == pytest.approx(notes.ends_s[0])


def test_who_comes_joins_after_the_running_step() -> None:
    notes, _ = play(TINY, [(0.0, 10, 4), (1.5, 10, 2)])
    # The first one's second token at 2.2; then a step with the prompt beside it.
    assert notes.firsts_s == pytest.approx({0: 1.1, 1: 2.2 + 1.2})
    assert notes.ends_s == pytest.approx({0: 3.4 + 1.2, 1: 3.4 + 1.2})


def test_a_full_batch_lets_nobody_in() -> None:
    notes, _ = play(TINY, [(0.0, 1, 3), (0.0, 1, 9), (0.1, 1, 1)])
    assert notes.firsts_s[2] > notes.ends_s[0]


def test_without_room_for_its_answer_nobody_starts() -> None:
    narrow = replace(TINY, max_kv_tokens=20)
    notes, _ = play(narrow, [(0.0, 5, 5), (0.0, 5, 6)])
    assert notes.firsts_s[1] > notes.ends_s[0]


REQUESTS = st.lists(
    st.tuples(st.integers(0, 300).map(lambda n: n * 0.0997301), *[st.integers(1, 25)] * 2),
    min_size=1,
    max_size=12,
    unique_by=lambda request: request[0],  # nor does anybody come at the end of a step
).map(sorted)


@given(requests=REQUESTS, max_seqs=st.integers(1, 4), context_s=st.sampled_from((0.0, 0.002)))
def test_stretches_are_what_steps_are(
    requests: list[tuple[float, int, int]], max_seqs: int, context_s: float
) -> None:
    profile = replace(
        TINY, max_num_seqs=max_seqs, num_slots=4, context_token_s=context_s, max_kv_tokens=90
    )
    notes, _ = play(profile, requests)
    slow = step_by_step(profile, requests)
    assert notes.firsts_s == pytest.approx(slow.firsts_s)
    assert notes.ends_s == pytest.approx(slow.ends_s)


def test_an_engine_that_ends_says_what_was_given() -> None:
    clock = Clock()
    engine = Engine(TINY, clock, Notes(clock), GapCounts())
    clock.at(0.0, engine.add, Job(0, 0, 0.0, 0, 10, 50))
    clock.at(5.0, lambda: None)
    clock.run(lambda: clock.now_s == 5.0)
    [(job, number)] = engine.abort()
    assert (job.number, number) == (0, 4)  # at 1.1, 2.2, 3.3 and 4.4
    assert engine.left_tokens() == 46


def test_gaps_are_counted_with_their_size() -> None:
    gaps = GapCounts()
    gaps.add(0.01, 90)
    gaps.add(0.5, 10)
    assert gaps.percentile_s(50) == pytest.approx(0.01, rel=0.02)
    assert gaps.percentile_s(99) == pytest.approx(0.5, rel=0.02)
