"""Question: is a fLoRA adapter worth as much as a LoRA adapter of as many parameters?

Table 1 of the paper (Wen & Chaudhuri, ICLR 2024) at the size of a small machine: the base model
learns to continue programs of a language, by each method on the same layers, batches and steps.
Each method has a small grid of learning rates, tried on the first language with the first seed and
chosen on validation programs; three seeds are then judged, in bits per byte, on programs that
nobody has seen. Methods: fLoRA, LoRA (alpha twice the rank) and IA3, from PEFT. Variants on the
first language alone, at the learning rates found: inputs tied (q, k and v share one B), and q and k
only. Ceiling: the best method of the table. Finished runs are kept in `--runs`, with their adapters
beside them, and not run again.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from transformers import AutoTokenizer

from benchmarks.code_texts import SOURCES, CodeTexts, read_code
from benchmarks.command import make_parser
from benchmarks.method_runs import Journal, Outcome, Run, train
from benchmarks.record import RESULTS, summarise, write_record

GRIDS: Mapping[str, Sequence[float]] = {
    "flora1": (4e-3, 8e-3, 1.6e-2, 3.2e-2),
    "lora1": (1e-3, 3e-3, 1e-2, 3e-2),
    "lora8": (1e-3, 3e-3, 1e-2),
    "ia3": (4e-3, 8e-3, 2e-2, 5e-2),
}
VARIANTS = {"flora1-tied": "flora1", "flora1-qk": "flora1"}
NUM_SEEDS = 3
MAX_HELDOUT_BLOCKS = 16
console = Console(stderr=True)


class Bench:
    """Runs what is asked for, unless the journal has it."""

    def __init__(self, args: argparse.Namespace, progress: Progress) -> None:
        self._args = args
        self._journal = Journal(args.runs)
        self._progress = progress
        self._tokenizer: Any = AutoTokenizer.from_pretrained(args.model)
        self._texts: dict[str, CodeTexts] = {}

    def outcome(self, language: str, method: str, learning_rate: float, seed: int) -> Outcome:
        args = self._args
        run = Run(language, method, learning_rate, seed, args.steps, args.batch_size)
        known = self._journal.get(run)
        if known is not None:
            return known
        outcome = train(run, self._read(language), args.model, args.runs.with_suffix(""))
        self._journal.put(run, outcome)
        self._progress.console.print(
            f"{language} {method} at {learning_rate:g}, seed {seed}:"
            f" {outcome.test_bpb:.4f} bits a byte, {outcome.seconds:.0f} s"
        )
        return outcome

    def best_rate(self, method: str) -> float:
        """The rate of the lowest validation loss, on the first language with the first seed."""
        if method in VARIANTS:
            method = VARIANTS[method]
        language = self._args.languages[0]
        return min(
            self.rates(method), key=lambda r: self.outcome(language, method, r, 0).validation_bpb
        )

    def rates(self, method: str) -> Sequence[float]:
        """Those that are tried."""
        return GRIDS[method][: 1 if self._args.quick else None]

    def _read(self, language: str) -> CodeTexts:
        if language not in self._texts:
            args = self._args
            self._texts[language] = read_code(
                args.data, language, self._tokenizer, args.length, MAX_HELDOUT_BLOCKS
            )
        return self._texts[language]


def collect(bench: Bench, args: argparse.Namespace, progress: Progress) -> dict[str, list[float]]:
    """Every run of the table."""
    cells = [(language, method) for language in args.languages for method in GRIDS]
    cells += [(args.languages[0], method) for method in ([] if args.quick else VARIANTS)]
    samples: dict[str, list[float]] = {}
    for language, method in progress.track(cells, description="methods"):
        base = bench.outcome(language, "base", 0.0, 0)
        samples[f"{language}_base_bpb"] = [base.test_bpb]
        rate = bench.best_rate(method)
        key = f"{language}_{method.replace('-', '_')}"
        seeds = range(1 if args.quick else NUM_SEEDS)
        outcomes = [bench.outcome(language, method, rate, seed) for seed in seeds]
        samples[f"{key}_bpb"] = [outcome.test_bpb for outcome in outcomes]
        samples[f"{key}_learning_rate"] = [rate]
        samples[f"{key}_parameters"] = [outcomes[0].num_parameters]
        if language == args.languages[0] and method in GRIDS:
            for tried in bench.rates(method):
                outcome = bench.outcome(language, method, tried, 0)
                samples[f"{key}_at_{tried:g}_bpb"] = [outcome.test_bpb]
    return samples


def verdict(metrics: Mapping[str, float], languages: Sequence[str]) -> str:
    """Each language's row of the table, and the gain at equal parameters."""
    rows = []
    for language in languages:
        bpb = {m: metrics[f"{language}_{m}_bpb"] for m in ("base", *GRIDS)}
        gain = (bpb["base"] - bpb["flora1"]) / (bpb["base"] - bpb["lora1"])
        values = ", ".join(f"{method} {value:.3f}" for method, value in bpb.items())
        rows.append(f"{language}: {values} (fLoRA has {gain:.2f} of LoRA's gain at rank 1)")
    tried = [
        f"{method} " + ", ".join(f"{bpb:.3f} at {rate}" for rate, bpb in tries(metrics, method))
        for method in ("flora1", "lora1")
    ]
    rates = f"by learning rate on {languages[0]}: {'; '.join(tried)}"
    return "bits a byte: " + "; ".join([*rows, rates])


def tries(metrics: Mapping[str, float], method: str) -> list[tuple[str, float]]:
    """The learning rates that were tried, and what came of the first seed."""
    begin = f"_{method}_at_"
    return [
        (name.partition(begin)[2].removesuffix("_bpb"), bpb)
        for name, bpb in metrics.items()
        if begin in name
    ]


def show(metrics: Mapping[str, float]) -> None:
    """A row for each number."""
    table = Table("metric", "median")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command line. Ends the process where the programs are absent."""
    parser = make_parser("methods", __doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--languages", nargs="+", choices=SOURCES, default=["perl", "ruby", "lua"])
    parser.add_argument("--steps", type=int, default=0, help="(40; quick: 10)")
    parser.add_argument("--batch-size", type=int, default=2, help="blocks a step")
    parser.add_argument("--length", type=int, default=256, help="tokens a block")
    parser.add_argument("--runs", type=Path, default=RESULTS / "scratch" / "methods.jsonl")
    parser.add_argument("--quick", action="store_true", help="one rate, one seed, few steps")
    args = parser.parse_args()
    args.steps = args.steps or (10 if args.quick else 40)
    if not args.data.is_dir():
        parser.error(f"there are no programs in {args.data}: name their folder with --data")
    return args


def main() -> None:
    """Train, judge, record."""
    args = parse()
    with Progress(console=console) as progress:
        samples = collect(Bench(args, progress), args, progress)
    metrics, spread = summarise(samples)
    show(metrics)
    said = verdict(metrics, args.languages)
    console.print(said)
    path = write_record(
        args.json,
        name="methods",
        question=(__doc__ or "").partition("\n")[0].removeprefix("Question: "),
        config={
            "model": args.model.name,
            "steps": args.steps,
            "batch_tokens": args.batch_size * args.length,
            "dtype": "bfloat16, parameters of the methods float32",
            "grids": {name: list(rates) for name, rates in GRIDS.items()},
        },
        seed=0,
        warmup=0,
        repeats=NUM_SEEDS,
        metrics=metrics,
        spread={name: s for name, s in spread.items() if s.n > 1},
        ceiling="the best method of the table",
        verdict=said,
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
