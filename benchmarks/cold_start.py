"""Question: how much later is the first token when its adapter is not on the device yet?

One request at a time on an idle replica (real vLLM, Valkey on loopback, a file store). Each
request has a prompt of its own and, but for the baseline, an adapter that was never used before and
lies in one tier: the node cache, Redis or the object store. Before each, one request for another
adapter runs, so that all find the machine in the same state, and then nothing for a moment. Added
is what it takes beyond the median of adapters that are in their slot. The same for vLLM's own LoRA
of equal size from files on tmpfs. Tiers take turns in a random order. Ceiling: a copy of the row
from memory, about 0.1 ms.
"""

import argparse
import asyncio
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.cold_stack import ColdStack, cold_stack, engine_config
from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.record import summarise, write_record
from benchmarks.vllm_methods import Method

SEED = 0
PLACES = ("slot", "node", "redis", "store")
SIZES = {"": (1, 1), "_5mb": (10, 8)}
"""Suffix -> fLoRA rank and LoRA rank: 0.5 MB and 5 MB of adapter in either form."""
PERCENTILES = (50, 95, 99)
PROMPT_TOKENS = 8
IDLE_S = 0.03

Samples = dict[str, list[float]]
console = Console(stderr=True)


def random_prompt(rng: np.random.Generator, num_tokens: int = PROMPT_TOKENS) -> tuple[int, ...]:
    """A prompt that no prefix cache knows."""
    return tuple(int(token) for token in rng.integers(1000, 40_000, num_tokens))


async def flora_ttft(stack: ColdStack, rank: int, repeats: int) -> Samples:
    """Seconds to the first token by place, `repeats` of each, in random order."""
    rng = np.random.default_rng(SEED)
    times: Samples = defaultdict(list)
    other = await stack.make("slot", rank, 10 * repeats)
    for number in range(repeats):
        for place in rng.permutation(PLACES):
            key = await stack.make(str(place), rank, number * 10 + PLACES.index(place))
            await stack.ttft_s(other, random_prompt(rng))
            await asyncio.sleep(IDLE_S)
            times[place].append(await stack.ttft_s(key, random_prompt(rng)))
    return times


async def lora_ttft(method: Method, repeats: int) -> Samples:
    """Seconds to the first token of vLLM's LoRA: "disk" for the first use, then "slot"."""
    rng = np.random.default_rng(SEED)
    times: Samples = defaultdict(list)
    await method.ttft_s(list(random_prompt(rng)), 0)
    for number in range(1, repeats + 1):
        for place in ("disk", "slot"):
            await method.ttft_s(list(random_prompt(rng)), 0)
            await asyncio.sleep(IDLE_S)
            times[place].append(await method.ttft_s(list(random_prompt(rng)), number))
    return times


def add(samples: Samples, prefix: str, suffix: str, times: list[float], resident: float) -> None:
    """Percentiles of what `times` add to `resident`, in milliseconds."""
    for percentile in PERCENTILES:
        name = f"{prefix}_added_ttft_ms_p{percentile}{suffix}"
        samples[name] = [(float(np.percentile(times, percentile)) - resident) * 1e3]


async def measure(args: argparse.Namespace, folder: Path, store: Path) -> Samples:
    """Both sizes, both methods, one engine at a time."""
    samples: Samples = {}
    for suffix, (rank, lora_rank) in SIZES.items():
        repeats = args.repeats if not suffix else max(10, args.repeats // 2)
        config = engine_config(args.model, rank)
        async with cold_stack(config, folder / f"flora{suffix}", store / f"objects{suffix}") as s:
            times = await flora_ttft(s, rank, repeats)
        resident = median(times["slot"])
        samples[f"slot_ttft_ms_p50{suffix}"] = [resident * 1e3]
        for place in PLACES[1:]:
            add(samples, place, suffix, times[place], resident)
        method = Method("lora", lora_rank, config, folder / f"lora{suffix}")
        try:
            await method.start(repeats + 1, max_resident=64)
            times = await lora_ttft(method, repeats)
        finally:
            method.stop()
        resident = median(times["slot"])
        samples[f"lora_slot_ttft_ms_p50{suffix}"] = [resident * 1e3]
        add(samples, "lora_disk", suffix, times["disk"], resident)
    return samples


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("cold-start", __doc__)
    parser.add_argument("--repeats", type=int, default=100, help="requests a tier (5 MB: half)")
    return parser.parse_args()


def main() -> None:
    """Measure, show, record."""
    prepare_engines()
    args = parse()
    with fast_folder() as folder, tempfile.TemporaryDirectory() as store:
        metrics, spread = summarise(asyncio.run(measure(args, folder, Path(store))))
    table = Table("metric", "ms")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.2f}")
    console.print(table)
    redis = metrics["redis_added_ttft_ms_p50"]
    path = write_record(
        args.json,
        name="cold-start",
        question="How much later is the first token when its adapter is not on the device yet?",
        config={"prompt_tokens": PROMPT_TOKENS, "sizes": {"": "0.5 MB", "_5mb": "5 MB"}},
        seed=SEED,
        warmup=1,
        repeats=args.repeats,
        metrics=metrics,
        spread=spread,
        ceiling="a copy of the row from memory: about 0.1 ms for 0.5 MB",
        verdict=f"from Redis {redis:.2f} ms later at the median (target 2 ms), vLLM's LoRA from"
        f" tmpfs {metrics['lora_disk_added_ttft_ms_p50']:.2f} ms",
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
