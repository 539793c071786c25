"""Question: what do int8 rows save, and what do they change?

Half the bytes of bfloat16 rows, in every tier and in the slab. What that costs in exactness is how
far log-probabilities of answer tokens move against the same adapter in float32 rows, with all else
in float32; bfloat16 rows beside them are what is accepted without asking. What it gains in
speed is the time that scaling adds to all linear layers of a decode step of 32 tokens with 32
different adapters. Ceiling: 0.5 of the bytes; for the step the products alone.
"""

import argparse
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command import make_parser
from benchmarks.llama_layout import llama_layout
from benchmarks.record import summarise, write_record
from benchmarks.row_changes import (
    DTYPES,
    RANDOM_KINDS,
    Change,
    RowChanges,
    demo_files,
    random_files,
)
from benchmarks.vllm_step import Products, ScaledProducts
from flora.demo.build_data import DATA_DIR
from flora.demo.train_demo import DEMO_ADAPTERS
from flora.layout import AdapterLayout

SEED = 0
NUM_TOKENS = 32
NUM_SLOTS = 256
NUM_WARMUP = 5
RANDOM_DEVIATION = 0.05

Metrics = dict[str, float]
console = Console(stderr=True)


def measure_changes(model: Path, layout: AdapterLayout, num_examples: int) -> Metrics:
    """The four trained demo adapters on their own data, and random ones on the first's."""
    rows = RowChanges(model, layout)
    found: dict[str, list[Change]] = defaultdict(list)
    for name in DEMO_ADAPTERS:
        examples = rows.examples(DATA_DIR / f"{name}.jsonl", num_examples)
        files = demo_files(DATA_DIR / "adapters" / name)
        for dtype, change in rows.changes(files, examples).items():
            found[dtype].append(change)
        console.print(f"{name}: done")
    examples = rows.examples(DATA_DIR / f"{DEMO_ADAPTERS[0]}.jsonl", num_examples)
    for kind in RANDOM_KINDS:
        files = random_files(layout, kind, RANDOM_DEVIATION, SEED)
        for dtype, change in rows.changes(files, examples).items():
            found[f"{dtype}_random_{kind}"].append(change)
        console.print(f"random {kind}: done")
    return {key: value for name, changes in found.items() for key, value in summary(name, changes)}


def summary(prefix: str, changes: list[Change]) -> list[tuple[str, float]]:
    """Mean, 99th percentile and largest change of a log-probability; share of other best tokens."""
    apart = torch.cat([change.apart for change in changes])
    differs = torch.cat([change.best_differs for change in changes])
    return [
        (f"{prefix}_logprob_change_mean", float(apart.mean())),
        (f"{prefix}_logprob_change_p99", float(apart.quantile(0.99))),
        (f"{prefix}_logprob_change_max", float(apart.max())),
        (f"{prefix}_best_token_differs_share", float(differs.float().mean())),
    ]


def measure_steps(layout: AdapterLayout, num_steps: int) -> dict[str, list[float]]:
    """Samples: the products alone, and what scaling by each row dtype adds, turn by turn.

    Tokens of the base model read no row: "identity" is the cost of the calls.
    """
    products = Products(layout, NUM_TOKENS, SEED)
    scaled = {
        dtype: ScaledProducts(replace(layout, dtype=dtype), products, NUM_SLOTS) for dtype in DTYPES
    }
    rng = np.random.default_rng(SEED)
    samples: dict[str, list[float]] = defaultdict(list)
    for step in range(NUM_WARMUP + num_steps):
        base_ms = products.step_s() * 1e3
        identity_ms = scaled["int8"].step_s([0] * NUM_TOKENS) * 1e3 - base_ms
        for dtype in DTYPES if step % 2 else reversed(DTYPES):
            added_ms = scaled[dtype].step_s(draw(rng)) * 1e3 - base_ms
            if step >= NUM_WARMUP:
                samples[f"{dtype}_scaling_ms"].append(added_ms)
        if step >= NUM_WARMUP:
            samples["products_ms"].append(base_ms)
            samples["identity_scaling_ms"].append(identity_ms)
    return samples


def draw(rng: np.random.Generator) -> list[int]:
    """A different slot for every token."""
    return (rng.permutation(NUM_SLOTS)[:NUM_TOKENS] + 1).tolist()  # type: ignore[no-any-return]


def sizes(layout: AdapterLayout) -> Metrics:
    """Bytes of a rank-1 tied adapter's numbers by row dtype."""
    by_dtype = {
        dtype: replace(layout, dtype=dtype).base_width * replace(layout, dtype=dtype).itemsize
        for dtype in DTYPES
    }
    share = by_dtype["int8"] / by_dtype["bfloat16"]
    return {f"{dtype}_bytes": float(n) for dtype, n in by_dtype.items()} | {
        "int8_bytes_share": share
    }


def show(metrics: Metrics) -> None:
    """The medians as a table for people."""
    table = Table("metric", "value")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.6g}")
    Console().print(table)


def verdict(metrics: Metrics) -> str:
    """The saving, and the change, in one line."""
    return (
        f"{metrics['int8_bytes_share']:.3f} of the bytes; log-probabilities of trained adapters"
        f" move by {metrics['int8_logprob_change_mean']:.4f} on average,"
        f" {metrics['int8_logprob_change_max']:.2f} at most; scaling a decode step takes"
        f" {metrics['int8_scaling_ms']:.2f} ms instead of {metrics['bfloat16_scaling_ms']:.2f} ms,"
        f" {metrics['identity_scaling_ms']:.2f} ms of it without rows"
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("rows", __doc__)
    parser.add_argument("--examples", type=int, default=24, help="conversations an adapter")
    parser.add_argument("--steps", type=int, default=200, help="decode steps that are timed")
    return parser.parse_args()


def main() -> None:
    """Measure, show, record."""
    args = parse()
    layout = llama_layout(args.model, "bfloat16", max_rank=4)
    timed, spread = summarise(measure_steps(replace(layout, max_rank=1), args.steps))
    metrics = sizes(layout) | timed | measure_changes(args.model, layout, args.examples)
    show(metrics)
    path = write_record(
        args.json,
        name="rows",
        question="What do int8 rows save, and what do they change?",
        config={
            "num_tokens": NUM_TOKENS,
            "num_slots": NUM_SLOTS,
            "random_deviation": RANDOM_DEVIATION,
            "examples": args.examples,
        },
        seed=SEED,
        warmup=NUM_WARMUP,
        repeats=args.steps,
        metrics=metrics,
        spread=spread,
        ceiling="0.5 of the bytes; a scaling time of nothing beside the products",
        verdict=verdict(metrics),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
