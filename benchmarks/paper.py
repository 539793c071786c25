"""Question: does fLoRA serve as the paper says, and where does it lose?

The serving experiments of Wen & Chaudhuri (ICLR 2024) and some beyond them, on the paper's model
shapes with made-up weights: throughput and latency by rank, the rank from which LoRA by batched
products is quicker, as measured and as the paper's inequality has it; then many adapters, mixed
ranks, long prompts against long answers, 8-bit base models and the part of a layer that one of two
devices has. Methods side by side: the base model, fLoRA, the paper's baseline (LoRA by `torch.bmm`
in the place where fLoRA is), vLLM's own LoRA. See docs/paper-benchmarks.md.

`--scale cpu` cuts models, batches and lengths so that the same command runs on a small machine in
minutes. What was measured is kept in `--journal`, by commit: an interrupted command goes on where
it was, and several that share a journal make one record. Ceiling: the base model.
"""

import argparse
import os
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.command import make_parser, prepare_engines
from benchmarks.paper_loads import is_measured
from benchmarks.paper_models import MODELS
from benchmarks.paper_plan import EXPERIMENTS, METHODS, SCALES, Scale, plan
from benchmarks.paper_runs import CLOCKS, SEED, Job, Journal, groups, run_apart
from benchmarks.paper_verdict import measured_ranks, verdict
from benchmarks.record import RESULTS, Spread, read_checkout, write_record

CROSSOVER = "crossover"
_DATA = Path("../shared/data/sharegpt_lengths")
console = Console(stderr=True)


def jobs(args: argparse.Namespace, commit: str) -> Iterator[Job]:
    """What there is to do, a process each."""
    scale: Scale = SCALES[args.scale]
    common = (args.rounds, args.threads, args.clock, args.data, args.journal, commit)
    if CROSSOVER in args.experiments:
        yield Job("c1, c2", scale, (), tuple(args.models or MODELS), *common)
    cells = plan(scale, args.experiments, args.models, args.methods)
    for name, found in groups(scale, cells).items():
        yield Job(name, scale, tuple(found), (), *common)


def run(args: argparse.Namespace, commit: str) -> list[str]:
    """Do what is not done yet; the metrics that are left."""
    left = []
    started_s = time.monotonic()
    for job in jobs(args, commit):
        is_time = not args.limit_s or time.monotonic() - started_s < args.limit_s
        if is_time and job.left():
            console.print(job.name)
            run_apart(job)
        left += job.left()
    return left


def summarise(samples: dict[str, list[float]]) -> tuple[dict[str, float], dict[str, Spread]]:
    """The best pass of each: what else a machine does only ever adds time."""
    metrics, spread = {}, {}
    for name, values in samples.items():
        metrics[name] = min(values) if name.endswith("ms_per_token") else max(values)
        ordered = sorted(values)
        middle = ordered[len(ordered) // 2]
        spread[name] = Spread(ordered[0], middle, ordered[-1], len(ordered))
    return metrics, spread


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("paper", __doc__, model=False)
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--models", nargs="*", choices=MODELS, default=[])
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=METHODS)
    names = (*EXPERIMENTS, CROSSOVER)
    parser.add_argument("--experiments", nargs="*", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="one model, throughput, one round")
    parser.add_argument("--rounds", type=int, default=0, help="passes a cell (cpu 3, gpu 1)")
    parser.add_argument("--threads", type=int, help="of a CPU engine; all cores by default")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="what times throughput")
    parser.add_argument("--limit-s", type=float, help="start nothing more after so many seconds")
    parser.add_argument("--data", type=Path, default=_DATA, help="folder with ShareGPT's lengths")
    parser.add_argument("--journal", type=Path, help="what was measured so far")
    args = parser.parse_args()
    if args.quick:
        args.experiments = ("throughput", CROSSOVER)
        args.models = args.models or ["llama3-8b"]
    args.rounds = args.rounds or (3 if args.scale == "cpu" and not args.quick else 1)
    name = f"paper-{args.scale}{'-quick' if args.quick else ''}"
    args.journal = args.journal or RESULTS / "scratch" / f"{name}.jsonl"
    if args.quick and args.json is None:
        args.json = RESULTS / "scratch" / f"{name}.json"
    return args


def prepare_threads(num_threads: int | None) -> None:
    """For processes that start from here: vLLM binds threads to all cores unless it is told not
    to, and a library counts its threads when it is loaded.
    """
    if num_threads:
        os.environ["OMP_NUM_THREADS"] = str(num_threads)
        os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"


def show(metrics: dict[str, float]) -> None:
    """The numbers as a table for people."""
    table = Table("metric", "best")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)


def main() -> None:
    """Measure, show, record."""
    prepare_engines()
    args = parse()
    prepare_threads(args.threads)
    source = read_checkout()
    left = run(args, source.commit)
    metrics, spread = summarise(Journal(args.journal, source.commit).samples())
    if not metrics:
        raise SystemExit("nothing was measured")
    metrics |= measured_ranks(metrics)
    show(metrics)
    path = write_record(
        args.json,
        name=f"paper-{args.scale}",
        question="Does fLoRA serve as its paper says, and where does it lose?",
        config={
            "scale": args.scale,
            "threads": args.threads or len(os.sched_getaffinity(0)),
            "clock": args.clock,
            "lengths": "ShareGPT" if is_measured(args.data) else "made up",
            "left": left,
            **scale_config(SCALES[args.scale]),
        },
        seed=SEED,
        warmup=1,
        repeats=args.rounds,
        metrics=metrics,
        spread=spread,
        ceiling="the base model, and for a method at a rank its own arithmetic",
        verdict=verdict(metrics),
    )
    console.print(f"record: {path}")
    if left:
        console.print(f"left, run the command again for them: {', '.join(left)}")


def scale_config(scale: Scale) -> dict[str, object]:
    """What a record says of the scale."""
    return {
        "requests": scale.num_requests,
        "sequences": scale.num_seqs,
        "length_divisor": scale.length_divisor,
        "batched_tokens": scale.num_batched_tokens,
        "shapes": "quarter widths, two layers" if scale.is_cut else "whole",
    }


if __name__ == "__main__":
    main()
