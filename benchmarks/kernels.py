"""Question: how near to the memory's speed are the kernels that scale a batch?

All the scaling of one step of a model's linear layers, without the products in between: every token
reads its part of its adapter's row, and its activations are read and written twice a layer. Steps:
a decode step of 32 and of 256 tokens with as many adapters, and a prefill of 2,048 tokens of 8.
Slots differ from step to step, so that rows are cold. Ways: the native op on a CPU; on a GPU
Triton's kernels, plain tensor code, and the same compiled by Inductor, replayed from CUDA graphs as
an engine does. Ceiling: the bytes that have to move, by the speed of a large copy measured in the
same run. Activations that a cache still holds make a share above 1 possible.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.command import make_parser
from benchmarks.llama_layout import SHAPES, shape_layout
from benchmarks.record import summarise, write_record
from benchmarks.scaling_step import WAYS, ScalingStep, steps_of

SEED = 0
NUM_SLOTS = 256
NUM_WARMUP = 3
LOADS = {"decode_32": (32, 32), "decode_256": (256, 256), "prefill_2048": (2048, 8)}
"""Tokens, and different adapters that they use."""

Samples = dict[str, list[float]]
console = Console(stderr=True)


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes read and written a second by the fastest of some copies of 256 MiB (a GPU: 1 GiB)."""
    num_bytes = (1 << 30) if device.type == "cuda" else (256 << 20)
    source = torch.ones(num_bytes, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    times = [elapsed_s(device, lambda: target.copy_(source)) for _ in range(8)]
    return 2 * num_bytes / min(times)


def elapsed_s(device: torch.device, work: Callable[[], object]) -> float:
    """Time of some work; on a GPU by its own clock."""
    if device.type != "cuda":
        started_s = perf_counter()
        work()
        return perf_counter() - started_s
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def measure(shape: str, device: torch.device, num_steps: int) -> Samples:
    """Samples of every way, row format and load; shares are of the copy's speed."""
    samples: Samples = defaultdict(list)
    bandwidth = copy_bytes_per_s(device)
    samples["copy_gb_per_s"].append(bandwidth / 1e9)
    for row_dtype in ("bfloat16", "int8"):
        step = ScalingStep(
            shape_layout(shape, row_dtype),
            NUM_SLOTS,
            device,
            max(tokens for tokens, _ in LOADS.values()),
        )
        for load, (num_tokens, num_adapters) in LOADS.items():
            step.prepare(num_tokens)
            floor_s = step.num_bytes(num_adapters) / bandwidth
            for way in WAYS[device.type]:
                name = f"{way}_{row_dtype}_{load}"
                for elapsed in times_s(step, way, num_tokens, num_adapters, num_steps):
                    samples[f"{name}_ms"].append(elapsed * 1e3)
                    samples[f"{name}_share_of_copy"].append(floor_s / elapsed)
                console.print(
                    name, f"{min(samples[f'{name}_ms']):.3f} ms, floor {floor_s * 1e3:.3f}"
                )
    return samples


def times_s(
    step: ScalingStep, way: str, num_tokens: int, num_adapters: int, num_steps: int
) -> list[float]:
    """Times of steps with other slots each."""
    rng = np.random.default_rng(SEED)
    run = step.runner(way)
    found = []
    for _ in range(NUM_WARMUP + num_steps):
        step.use(steps_of(rng, NUM_SLOTS, num_tokens, num_adapters))
        found.append(elapsed_s(step.device, run))
    return found[NUM_WARMUP:]


def verdict(metrics: dict[str, float], device_type: str) -> str:
    """How much of the copy's speed the fastest way reaches, load by load."""
    parts = []
    for load in LOADS:
        shares = {way: metrics[f"{way}_bfloat16_{load}_share_of_copy"] for way in WAYS[device_type]}
        best = max(shares, key=lambda way: shares[way])
        parts.append(f"{load} {best} {shares[best]:.2f}")
    return f"share of the copy's speed: {', '.join(parts)}"


def show(metrics: dict[str, float]) -> None:
    """The medians as a table for people."""
    table = Table("metric", "median")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("kernels", __doc__, model=False)
    best = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=best)
    parser.add_argument("--shape", choices=sorted(SHAPES), help="default: by the device")
    parser.add_argument("--steps", type=int, default=100, help="steps that are timed")
    return parser.parse_args()


def main() -> None:
    """Measure, show, record."""
    args = parse()
    device = torch.device(args.device)
    shape = args.shape or ("llama-3-8b" if args.device == "cuda" else "smollm2-135m")
    with torch.inference_mode():
        metrics, spread = summarise(measure(shape, device, args.steps))
    show(metrics)
    path = write_record(
        args.json,
        name=f"kernels-{args.device}",
        question="How near to the memory's speed are the kernels that scale a batch?",
        config={"shape": shape, "num_slots": NUM_SLOTS, "loads": LOADS, "max_rank": 1},
        seed=SEED,
        warmup=NUM_WARMUP,
        repeats=args.steps,
        metrics=metrics,
        spread=spread,
        ceiling="the bytes that have to move, by the speed of a large copy (a share of 1)",
        verdict=verdict(metrics, args.device),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
