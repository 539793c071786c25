"""Measures cells: starts their engines, asks, and keeps what came out, so that a run can go on."""

import json
import multiprocessing
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.command import fast_folder, prepare_engines
from benchmarks.crossover import measure_costs
from benchmarks.paper_loads import Ask, at_once, poisson, sharegpt_lengths
from benchmarks.paper_models import MODELS
from benchmarks.paper_plan import RANKS, Cell, Load, Scale, Setup

SEED = 0
ClockName = Literal["wall", "processor"]
CLOCKS: Mapping[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.process_time,
}


class Journal:
    """Samples by metric and round, in a file of JSON lines; those of other commits do not count."""

    def __init__(self, path: Path, commit: str) -> None:
        self._path = path
        self._commit = commit
        self._known: dict[str, dict[int, float]] = defaultdict(dict)
        for line in path.read_text().splitlines() if path.exists() else ():
            sample = json.loads(line)
            if sample["commit"] == commit:
                self._known[sample["metric"]][sample["round"]] = sample["value"]

    def has(self, metric: str, number: int) -> bool:
        return number in self._known[metric]

    def put(self, metric: str, number: int, value: float) -> None:
        self._known[metric][number] = value
        sample = {"commit": self._commit, "metric": metric, "round": number, "value": value}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(sample) + "\n")

    def samples(self) -> dict[str, list[float]]:
        """Every metric's values."""
        return {metric: list(found.values()) for metric, found in self._known.items() if found}


@dataclass(frozen=True, slots=True)
class Job:
    """What one process does: cells, and c1 and c2 of the models in `costs_of`.

    `clock` times all but what arrives over time: "processor" counts the process's own time, which
    is steadier where one thread shares a machine with other programs. `commit` marks what it writes
    to `journal`.
    """

    name: str
    scale: Scale
    cells: tuple[Cell, ...]
    costs_of: tuple[str, ...]
    num_rounds: int
    num_threads: int | None
    clock: ClockName
    data: Path
    journal: Path
    commit: str

    def left(self) -> list[str]:
        """The metrics that the journal does not have yet."""
        journal = Journal(self.journal, self.commit)
        costs = [f"{key(model)}_bmm_ps_per_product" for model in self.costs_of]
        rounds = range(self.num_rounds)
        return [metric for metric in costs if not journal.has(metric, 0)] + [
            cell.metric
            for cell in self.cells
            if not all(journal.has(cell.metric, i) for i in rounds)
        ]


def key(model: str) -> str:
    """A model as metrics name it."""
    return model.replace("-", "_")


def groups(scale: Scale, cells: Iterable[Cell]) -> dict[str, list[Cell]]:
    """The cells of one process each, by a name to show: all of them, or those of an engine."""
    found: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells:
        found["engines" if scale.is_together else str(cell.setup)].append(cell)
    return found


def run_apart(job: Job) -> None:
    """The job in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=run_job, args=(job,))
    process.start()
    try:
        process.join()
    finally:
        if process.is_alive():
            process.terminate()
            process.join()


def run_job(job: Job) -> None:
    """The job, in this process. An engine that fails takes its own cells with it, no others."""
    prepare_engines()
    journal = Journal(job.journal, job.commit)
    left = set(job.left())
    for model in job.costs_of:
        if f"{key(model)}_bmm_ps_per_product" in left:
            run_costs(model, job, journal)
    cells = [cell for cell in job.cells if cell.metric in left]
    batches: dict[tuple[bool, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        batches[cell.load.rate_per_s > 0, cell.setup.model].append(cell)
    for _, batch in sorted(batches.items(), key=lambda item: item[0][0]):  # what waits comes last
        run_cells(batch, job, journal)


def run_costs(name: str, job: Job, journal: Journal) -> None:
    """c1, c2 and the crossover ranks that follow from them; no crossover, no metric."""
    import torch

    model = MODELS[name].cut() if job.scale.is_cut else MODELS[name]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and job.num_threads:
        torch.set_num_threads(job.num_threads)
    sizes = step_sizes(job.scale, job.data)
    costs = measure_costs(model, RANKS, sizes, device, CLOCKS[job.clock])
    stem = key(name)
    found = {
        f"{stem}_crossover_rank_predicted": costs.rank,
        f"{stem}_crossover_rank_of_products": costs.products_rank,
        f"{stem}_width": costs.width,
        f"{stem}_mm_ps_per_product": 1e12 * costs.mm_s,
        f"{stem}_bmm_ps_per_product": 1e12 * costs.bmm_s,
    }
    for metric, value in found.items():
        if np.isfinite(value):
            journal.put(metric, 0, value)


def step_sizes(scale: Scale, data: Path) -> Mapping[int, float]:
    """Tokens of a step that answers and of one that reads, and the share of ShareGPT's tokens."""
    rng = np.random.default_rng(SEED)
    lengths = sharegpt_lengths(data, scale.num_requests, scale.length_divisor, rng)
    read, answered = (sum(pair[i] for pair in lengths) for i in (0, 1))
    answering = answered / (read + answered)
    return {scale.num_seqs: answering, scale.num_batched_tokens: 1 - answering}


def asks_of(load: Load, scale: Scale, data: Path, num_slots: int) -> list[Ask]:
    """The load's requests: the same ones for every method and round."""
    rng = np.random.default_rng(SEED)
    num_adapters = min(load.num_adapters, num_slots)
    if load.lengths is None:
        lengths = sharegpt_lengths(data, load.num_requests, scale.length_divisor, rng)
    else:
        lengths = [load.lengths] * load.num_requests
    if load.rate_per_s:
        return poisson(lengths, load.rate_per_s, load.ranks[0], num_adapters, rng)
    return at_once(lengths, load.ranks, num_adapters)


def run_cells(missing: Sequence[Cell], job: Job, journal: Journal) -> None:
    """One model's cells once a round, in the other order every time, all engines side by side."""
    from benchmarks.vllm_paper import PaperEngine

    by_setup: dict[Setup, list[Cell]] = defaultdict(list)
    for cell in missing:
        by_setup[cell.setup].append(cell)
    engines: dict[Setup, PaperEngine] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(fast_folder())
        for number, (setup, cells) in enumerate(by_setup.items()):
            most = max(cell.load.num_adapters for cell in cells)
            try:
                engine = PaperEngine(setup, job.scale, folder / str(number), most, job.num_threads)
                stack.callback(engine.close)
                warm_up(engine, cells, job)
            except Exception:
                print(f"{setup} did not start:\n{traceback.format_exc()}", flush=True)
            else:
                engines[setup] = engine
        for number in range(job.num_rounds):
            for cell in missing if number % 2 else reversed(missing):
                if cell.setup in engines and not journal.has(cell.metric, number):
                    asks = asks_of(cell.load, job.scale, job.data, engines[cell.setup].num_slots)
                    clock = CLOCKS["wall" if cell.load.rate_per_s else job.clock]
                    outcome = engines[cell.setup].run(asks, SEED + 1 + number, clock)
                    value = getattr(outcome, cell.unit)
                    journal.put(cell.metric, number, value)
                    print(f"{number} {cell.metric} {value:.4g}", flush=True)


def warm_up(engine: Any, cells: Sequence[Cell], job: Job) -> None:
    """Each load that differs in its adapters, with short answers."""
    for load in {cell.load.ranks: cell.load for cell in cells}.values():
        engine.warm_up(asks_of(load, job.scale, job.data, engine.num_slots), SEED)
