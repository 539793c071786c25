"""Question: what does an adapter of 5 MB hold up when it goes to its slot?

Rows of an 8-billion-parameter Llama's sizes, from files on tmpfs. "hold" is how long the call that
activates one keeps the engine loop, "arrival" how long until the device has the row, and
"step_ratio" how much longer a step of some milliseconds takes when an adapter arrives with each:
one that the step does not use, and one that it waits for. Ceiling: no hold, the time of one copy
from pinned memory, and a ratio of 1. On a CPU the slab is memory of the host, so that the hold is
the whole arrival and there is no step beside it.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from time import perf_counter

import torch
from rich.console import Console

from benchmarks.command import fast_folder, make_parser
from benchmarks.kernels import elapsed_s, show
from benchmarks.llama_layout import shape_layout
from benchmarks.record import summarise, write_record
from benchmarks.vllm_methods import write_rows
from replicas.slab import Slab

SHAPE = "llama-3-8b"
SEED = 0
NUM_SLOTS = 32
NUM_FILES = 8
READER = 1
TARGET_HOLD_MS = 0.1

Samples = dict[str, list[float]]
console = Console(stderr=True)


class Activations:
    """A slab on a device, and files that are activated in turn."""

    def __init__(self, device: torch.device, files: list[Path]) -> None:
        self.device = device
        self.slab = Slab(shape_layout(SHAPE, "bfloat16"), NUM_SLOTS, device)
        self._files = files
        self._count = 0

    def load_s(self) -> float:
        """Activate the next file in the next slot but the first, which steps use: the hold."""
        self._count += 1
        started_s = perf_counter()
        self.slab.load(self.last_slot, self._files[self._count % len(self._files)])
        return perf_counter() - started_s

    @property
    def last_slot(self) -> int:
        return 2 + self._count % (NUM_SLOTS - 1)

    def arrive_s(self) -> float:
        """From the call until the device has the row."""
        self.synchronize()
        started_s = perf_counter()
        self.load_s()
        self.slab.before_step(READER, [self.last_slot])
        self.synchronize()
        return perf_counter() - started_s

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


class Step:
    """Products of a decode step's kind on a GPU: a few milliseconds that read a lot of memory."""

    def __init__(self, device: torch.device) -> None:
        self._weights = torch.randn(32, 8192, 8192, device=device, dtype=torch.bfloat16)
        self._x = torch.randn(64, 8192, device=device, dtype=torch.bfloat16)

    def __call__(self) -> None:
        for weight in self._weights:
            self._x @ weight


def measure(device: torch.device, files: list[Path], num_loads: int) -> Samples:
    """Samples by metric name."""
    samples: Samples = defaultdict(list)
    activations = Activations(device, files)
    for _ in range(2 * NUM_SLOTS):
        activations.arrive_s()
    for _ in range(num_loads):
        samples["arrival_ms"].append(activations.arrive_s() * 1e3)
    for _ in range(num_loads):
        activations.synchronize()
        samples["hold_ms"].append(activations.load_s() * 1e3)
    if device.type == "cuda":
        measure_steps(activations, num_loads, samples)
        measure_copy(activations, num_loads, samples)
    return samples


def measure_steps(activations: Activations, num_steps: int, samples: Samples) -> None:
    """Steps alone, beside an arrival that they do not use, and behind one that they wait for."""
    slab, step = activations.slab, Step(activations.device)

    def timed_s(slots: list[int]) -> float:
        slab.before_step(READER, slots)
        return elapsed_s(activations.device, step)

    for turn in range(num_steps + 3):
        alone_s = timed_s([1])
        hold_s = activations.load_s()
        unused_s = timed_s([1])
        activations.load_s()
        used_s = timed_s([1, activations.last_slot])
        if turn >= 3:
            samples["step_ms"].append(alone_s * 1e3)
            samples["hold_beside_step_ms"].append(hold_s * 1e3)
            samples["step_ratio_unused"].append(unused_s / alone_s)
            samples["step_ratio_used"].append(used_s / alone_s)


def measure_copy(activations: Activations, num_copies: int, samples: Samples) -> None:
    """The bare copy of a row from pinned memory."""
    row = activations.slab.numbers[1, : activations.slab.layout.base_width]
    source = torch.empty_like(row, device="cpu").pin_memory()
    for _ in range(num_copies):
        elapsed = elapsed_s(activations.device, lambda: row.copy_(source, non_blocking=True))
        samples["bare_copy_ms"].append(elapsed * 1e3)


def verdict(metrics: dict[str, float]) -> str:
    """The hold against its target, and what steps feel."""
    hold = metrics.get("hold_beside_step_ms", metrics["hold_ms"])
    met = "meets" if hold <= TARGET_HOLD_MS else "misses"
    said = f"holds the loop for {hold:.3f} ms ({met} {TARGET_HOLD_MS})"
    said += f", there in {metrics['arrival_ms']:.2f} ms"
    if "step_ratio_unused" in metrics:
        said += f"; steps beside it take {metrics['step_ratio_unused']:.3f} times as long"
    return said


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("activation", __doc__, model=False)
    best = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", choices=("cpu", "cuda"), default=best)
    parser.add_argument("--loads", type=int, default=100, help="activations of each kind")
    return parser.parse_args()


def main() -> None:
    """Measure, show, record."""
    args = parse()
    with fast_folder() as folder, torch.inference_mode():
        files = write_rows(shape_layout(SHAPE, "bfloat16"), NUM_FILES, folder)
        num_bytes = files[0].stat().st_size
        metrics, spread = summarise(measure(torch.device(args.device), files, args.loads))
    show(metrics)
    path = write_record(
        args.json,
        name=f"activation-{args.device}",
        question="What does an adapter of 5 MB hold up when it goes to its slot?",
        config={"shape": SHAPE, "row_bytes": num_bytes, "num_slots": NUM_SLOTS},
        seed=SEED,
        warmup=2 * NUM_SLOTS,
        repeats=args.loads,
        metrics=metrics,
        spread=spread,
        ceiling="no hold, one copy from pinned memory, steps as long as without",
        verdict=verdict(metrics),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
