"""Question: what does a different adapter on every request cost inside one engine?

One run, one machine: the base model, fLoRA rank 1, and vLLM's own LoRA at ranks 1 and 8, each in an
engine of its own with the same settings. What is compared runs side by side: a round is the base
and one other method in turn, three times, each after a short unmeasured pass of its own, in the
other order every time; the fastest counts, because what else a machine does only ever adds time. So
neither a drift of the machine nor what ran before favours one of them. Ceiling: the base model, 1.0
by definition. A decode step of 32 adapters reads 32 rows beside the weights, which on a CPU bounds
fLoRA at about 0.95 to 0.98.

`flora_r1_beside_lora` is fLoRA in an engine that takes LoRA adapters, too, while none is in use.

vLLM compiles no CPU model that has LoRA layers, so LoRA's share in compiled mode is that of its
eager engine against the compiled base: what a user gets.
"""

import argparse
import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.machine import read_hardware
from benchmarks.record import summarise, write_record
from benchmarks.vllm_methods import Load, Method
from replicas.config import ReplicaConfig

LORA_RANKS = (1, 8)
PASSES = 3
WARM_LOAD = Load(32, 32, num_output_tokens=4)
ADAPTER_COUNTS = (1, 8, 64, 256)
SEED = 0

Samples = dict[str, list[float]]
console = Console(stderr=True)


async def measure(mode: str, args: argparse.Namespace, folder: Path, samples: Samples) -> None:
    """All methods in one mode; adds to `samples` by metric name."""
    config = ReplicaConfig(
        str(args.model),
        dtype="bfloat16",
        num_slots=256,
        max_num_seqs=256,
        max_rank=1,
        max_model_len_tokens=512,
        kv_cache_bytes=args.kv_cache_gib << 30,
        gpu_memory_share=0.3,  # three engines share a GPU
        enforce_eager=mode == "eager",
        kernel=args.kernel,
    )
    async with running(mode, Method("base", 0, config, folder / "base"), 0) as base:
        async with running(mode, Method("flora", 1, config, folder / "flora"), 256) as flora:
            await compare(mode, base, flora, args.load, args.rounds, "", samples)
            if not args.quick:
                await compare_counts(mode, base, flora, samples)
            trips = await flora.load_round_trip_s()
            held = await flora.activation_hold_s()
            samples["activation_hold_ms_p50"] += [time_s * 1e3 for time_s in held]
            samples["activation_round_trip_ms_p50"] += [time_s * 1e3 for time_s in trips]
        passes = 1 if args.quick else PASSES
        ready = replace(config, lora_rank=8, lora_slots=8)
        async with running(mode, Method("flora", 1, ready, folder / "ready"), 256) as flora:
            await compare(mode, base, flora, args.load, args.rounds, "", samples, passes)
        for rank in args.lora_ranks:
            method = Method("lora", rank, config, folder / "lora")
            async with running(mode, method, args.load.num_adapters) as lora:
                await compare(mode, base, lora, args.load, 1, "", samples, passes)


@asynccontextmanager
async def running(mode: str, method: Method, num_adapters: int) -> AsyncIterator[Method]:
    """The method's engine, started and warm, until the block ends."""
    try:
        with console.status(f"{mode}: starting {method.name}"):
            await method.start(num_adapters)
            await method.tokens_per_s(WARM_LOAD, SEED)
        yield method
    finally:
        method.stop()


async def compare_counts(mode: str, base: Method, flora: Method, samples: Samples) -> None:
    """Base and fLoRA with 1 to 256 different adapters; never fewer than 32 sequences."""
    # The kernel is the same in both modes: compiled, the largest alone.
    for count in ADAPTER_COUNTS if mode == "eager" else ADAPTER_COUNTS[-1:]:
        load = Load(max(32, count), count, num_output_tokens=32)
        suffix = f"_{count}_adapters"
        await compare(mode, base, flora, load, 1, suffix, samples)


async def compare(
    mode: str,
    base: Method,
    other: Method,
    load: Load,
    rounds: int,
    suffix: str,
    samples: Samples,
    passes: int = PASSES,
) -> None:
    """Both methods `passes` times a round; the share is that of the fastest in the round."""
    for number in range(rounds):
        speeds = {base.name: 0.0, other.name: 0.0}
        for turn in range(passes):
            for method in (base, other) if (number + turn) % 2 else (other, base):
                await method.tokens_per_s(replace(load, num_output_tokens=4), SEED)  # its caches
                speed = await method.tokens_per_s(load, SEED + 1 + number * passes + turn)
                speeds[method.name] = max(speeds[method.name], speed)
        share = speeds[other.name] / speeds[base.name]
        console.print(f"{mode} {load.num_adapters} {other.name} {share:.3f}", speeds)
        if other.name == "flora_r1":
            samples[f"{mode}_base{suffix}_tokens_per_s"].append(speeds[base.name])
        samples[f"{mode}_{other.name}{suffix}_share_of_base"].append(share)


def verdict(metrics: dict[str, float], is_gpu: bool) -> str:
    """What the medians say about the targets: 0.97 of base (GPU: 0.98), 4 times LoRA rank 8."""
    parts, target = [], 0.98 if is_gpu else 0.97
    for mode in ("eager", "compiled"):
        share = metrics.get(f"{mode}_flora_r1_share_of_base")
        lora = metrics.get(f"{mode}_lora_r8_share_of_base")
        if share:
            met = "meets" if share >= target else "misses"
            beside = f", {share / lora:.1f} times LoRA rank 8" if lora else ""
            parts.append(f"{mode}: fLoRA {share:.3f} of base ({met} {target}){beside}")
    return "; ".join(parts)


def show(metrics: dict[str, float]) -> None:
    """The medians as a table for people."""
    table = Table("metric", "median")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.3f}")
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("engine", __doc__)
    parser.add_argument("--mode", choices=("eager", "compiled", "both"), default="both")
    parser.add_argument("--quick", action="store_true", help="a coarse answer, eager alone")
    parser.add_argument("--rounds", type=int, default=0, help="rounds a load (4; quick: 1)")
    parser.add_argument("--sequences", type=int, default=32, help="each with its own adapter")
    parser.add_argument("--kernel", choices=("auto", "plain", "triton"), default="auto")
    parser.add_argument("--lora-ranks", type=int, nargs="*", default=LORA_RANKS)
    parser.add_argument("--kv-cache-gib", type=int, default=1)
    args = parser.parse_args()
    args.load = Load(args.sequences, args.sequences)
    args.rounds = args.rounds or (1 if args.quick else 4)
    return args


async def run(args: argparse.Namespace, folder: Path) -> Samples:
    """Samples of the wanted modes; adapters are written to `folder`."""
    both = ("eager",) if args.quick and args.mode == "both" else ("eager", "compiled")
    modes = both if args.mode == "both" else (args.mode,)
    samples: Samples = defaultdict(list)
    for mode in modes:
        await measure(mode, args, folder / mode, samples)
    return samples


def main() -> None:
    """Measure, show, record."""
    prepare_engines()
    args = parse()
    with fast_folder() as folder:
        metrics, spread = summarise(asyncio.run(run(args, folder)))
    show(metrics)
    path = write_record(
        args.json,
        name="engine",
        question="What does a different adapter on every request cost inside one engine?",
        config={
            "load": str(args.load),
            "mode": args.mode,
            "quick": args.quick,
            "kernel": args.kernel,
            "model": args.model.name,
        },
        seed=SEED,
        warmup=1,
        repeats=args.rounds,
        metrics=metrics,
        spread=spread,
        ceiling="1.0 of base; about 0.95 to 0.98 by memory traffic on this kind of machine",
        verdict=verdict(metrics, bool(read_hardware().gpus)),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
