from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.paper import summarise
from benchmarks.paper_plan import CPU, GPU, METHODS, Load, plan
from benchmarks.paper_runs import Job, Journal, asks_of, groups, step_sizes

NOWHERE = Path("/nowhere")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    cells = plan(CPU, ["throughput"], ["llama3-8b"], METHODS)[:2]
    return Job(
        "name", CPU, tuple(cells), (), 2, None, "wall", NOWHERE, tmp_path / "j.jsonl", "c0ffee"
    )


def test_what_was_measured_is_not_measured_again_by_the_next_process(job: Job) -> None:
    first, second = (cell.metric for cell in job.cells)
    assert job.left() == [first, second]
    journal = Journal(job.journal, job.commit)
    for number, value in enumerate((3.0, 5.0)):
        journal.put(first, number, value)
    journal.put(second, 0, 7.0)
    assert job.left() == [second]
    assert Journal(job.journal, job.commit).samples() == {first: [3.0, 5.0], second: [7.0]}
    assert replace(job, num_rounds=1).left() == []


def test_other_sources_begin_anew(job: Job) -> None:
    Journal(job.journal, job.commit).put(job.cells[0].metric, 0, 1.0)
    assert Journal(job.journal, "beef").samples() == {}


def test_costs_are_done_once_c1_is_there(job: Job) -> None:
    costs = replace(job, cells=(), costs_of=("starcoder-1b",))
    assert costs.left() == ["starcoder_1b_bmm_ps_per_product"]
    Journal(job.journal, job.commit).put("starcoder_1b_bmm_ps_per_product", 0, 1.0)
    assert costs.left() == []


def test_engines_live_together_on_a_small_machine_and_alone_on_a_large_one() -> None:
    for scale, count in ((CPU, 1), (GPU, 2 * 14)):
        cells = plan(scale, ["throughput", "latency"], ["llama3-8b", "llama2-7b"], METHODS)
        found = groups(scale, cells)
        assert len(found) == count
        assert sum(map(len, found.values())) == len(cells)


def test_every_method_is_asked_the_same_thing_with_adapters_that_fit() -> None:
    load = Load(40, 40, (8,), rate_per_s=8)
    asks = asks_of(load, CPU, NOWHERE, 16)
    assert asks == asks_of(load, CPU, NOWHERE, 16)
    assert {ask.adapter for ask in asks} == set(range(16))
    assert asks_of(Load(3, 3, (1,), (7, 5)), CPU, NOWHERE, 8)[0].num_prompt_tokens == 7


def test_all_tokens_go_through_a_step_of_some_size() -> None:
    sizes = step_sizes(CPU, NOWHERE)
    assert set(sizes) == {CPU.num_seqs, CPU.num_batched_tokens}
    assert sum(sizes.values()) == pytest.approx(1)


def test_the_best_pass_counts() -> None:
    metrics, spread = summarise({"a_tokens_per_s": [3.0, 5.0, 4.0], "a_ms_per_token": [3.0, 5.0]})
    assert metrics == {"a_tokens_per_s": 5.0, "a_ms_per_token": 3.0}
    assert (spread["a_tokens_per_s"].median, spread["a_tokens_per_s"].n) == (4.0, 3)
