"""Question: do users feel it when somebody else's adapter arrives?

16 adapters are streamed without pause, one token a step each. Meanwhile, every 50 ms, something
comes. "load": an adapter that was never used before, and nothing else; ours goes from Redis to the
node and to its slot, vLLM's LoRA from a file on tmpfs to the device. "cold": the same with the
request that asks for it, of one prompt token and one output token. "resident": such a request for
an adapter that is on the device. Gaps between the tokens of the 16 are compared with those of the
same streams left alone: the ratio of "load" is the stall that an adapter causes, that of
"resident" what one more sequence costs, that of "cold" both. Ceiling: 1.0, nobody notices.
"""

import argparse
import asyncio
import tempfile
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np
from rich.console import Console

from benchmarks.cold_stack import ColdStack, cold_stack, engine_config
from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.record import summarise, write_record
from benchmarks.vllm_methods import Method
from contracts.adapters import AdapterKey

SEED = 0
NUM_STREAMS = 16
NUM_TOKENS = 256
EVERY_S = 0.05
ARRIVALS = ("none", "load", "resident", "cold")

Samples = dict[str, list[float]]
console = Console(stderr=True)


class Side(Protocol):
    """One method under test. Adapters are numbered; those below 32 are resident."""

    name: str
    per_round: int
    """New adapters of one round: more than its two kinds can use."""

    def stream(self, adapter: int, num_tokens: int) -> AsyncGenerator[tuple[float, int]]:
        """When tokens came, and how many."""
        ...

    async def load(self, adapter: int) -> None:
        """Bring an adapter to the device."""
        ...

    async def prepare(self, adapters: range) -> None:
        """Put adapters where an arrival finds them, unused."""
        ...


class FloraSide:
    """Ours, through the replica."""

    name = "flora"
    per_round = 600

    def __init__(self, stack: ColdStack) -> None:
        self._stack = stack
        self._keys: dict[int, AdapterKey] = {}

    async def prepare(self, adapters: range) -> None:
        for number in adapters:
            self._keys[number] = await self._stack.make("redis", 1, number)

    async def load(self, adapter: int) -> None:
        await self._stack.load(self._keys[adapter])

    async def stream(self, adapter: int, num_tokens: int) -> AsyncGenerator[tuple[float, int]]:
        request = self._stack.request(self._keys[adapter], (adapter % 30_000 + 100,), num_tokens)
        async for batch in self._stack.replica.generate((request,)):
            for delta in batch.deltas:
                if delta.error is not None:
                    raise delta.error
                if not delta.entered:
                    yield perf_counter(), len(delta.token_ids)


class LoraSide:
    """vLLM's LoRA, from files."""

    name = "lora"
    per_round = 1200

    def __init__(self, method: Method) -> None:
        self._method = method

    async def prepare(self, adapters: range) -> None:
        """They were all written at the start."""

    async def load(self, adapter: int) -> None:
        await self._method.load(adapter)

    def stream(self, adapter: int, num_tokens: int) -> AsyncGenerator[tuple[float, int]]:
        return self._method.token_times_s([adapter % 30_000 + 100], adapter, num_tokens)


async def gaps_s(side: Side, arrive: Callable[[], Awaitable[None]] | None) -> list[float]:
    """Times between consecutive tokens of the streams, with something arriving or nothing."""
    gaps: list[float] = []

    async def follow(adapter: int) -> None:
        times = [came_s async for came_s, num in side.stream(adapter, NUM_TOKENS) if num]
        # The first step prefills, and the last ones have fewer neighbours.
        gaps.extend(np.diff(times[8:-8]).tolist())

    async with asyncio.TaskGroup() as group:
        streams = [group.create_task(follow(adapter)) for adapter in range(NUM_STREAMS)]
        while arrive is not None and not any(stream.done() for stream in streams):
            group.create_task(drop_result(arrive()))
            await asyncio.sleep(EVERY_S)
    return gaps


async def drop_result(work: Awaitable[None]) -> None:
    """An awaitable as the coroutine that a task needs."""
    await work


async def measure_side(side: Side, rounds: int, samples: Samples) -> None:
    """Every kind of arrival once a round, in another order each."""
    rng = np.random.default_rng(SEED)
    numbers = count(32)

    async def arrival(adapter: int) -> None:
        async for _ in side.stream(adapter, 1):
            pass

    arrivals: dict[str, Callable[[], Awaitable[None]] | None] = {
        "none": None,
        "load": lambda: side.load(next(numbers)),
        "resident": lambda: arrival(int(rng.integers(NUM_STREAMS, 32))),
        "cold": lambda: arrival(next(numbers)),
    }
    await side.prepare(range(32))
    for adapter in range(32):
        await arrival(adapter)
    await gaps_s(side, None)
    for number in range(rounds):
        await side.prepare(range(32 + number * side.per_round, 32 + (number + 1) * side.per_round))
        found = {kind: await gaps_s(side, arrivals[kind]) for kind in rng.permutation(ARRIVALS)}
        p99 = {kind: float(np.percentile(found[kind], 99)) for kind in ARRIVALS}
        p50 = {kind: float(np.percentile(found[kind], 50)) for kind in ARRIVALS}
        console.print(side.name, {kind: f"{p99[kind] * 1e3:.1f} ms" for kind in ARRIVALS})
        samples[f"{side.name}_gap_p50_ms"].append(p50["none"] * 1e3)
        samples[f"{side.name}_gap_p99_ms"].append(p99["none"] * 1e3)
        for kind in ARRIVALS[1:]:
            suffix = "" if kind == "load" else f"_{kind}"
            samples[f"{side.name}_gap_p99_ratio{suffix}"].append(p99[kind] / p99["none"])
            samples[f"{side.name}_gap_p50_ratio{suffix}"].append(p50[kind] / p50["none"])


@asynccontextmanager
async def lora_side(model: Path, folder: Path, num_adapters: int) -> AsyncGenerator[LoraSide]:
    """vLLM's LoRA rank 1 with room for twice as many adapters as are resident."""
    config = engine_config(model, 1)
    method = Method("lora", 1, config, folder)
    try:
        await method.start(num_adapters, max_resident=64)
        yield LoraSide(method)
    finally:
        method.stop()


async def measure(args: argparse.Namespace, folder: Path, store: Path) -> Samples:
    """One method after the other: both keep the machine busy."""
    samples: Samples = defaultdict(list)
    config = engine_config(args.model, 1)
    async with cold_stack(config, folder / "flora", store) as stack:
        await measure_side(FloraSide(stack), args.rounds, samples)
    async with lora_side(
        args.model, folder / "lora", 32 + LoraSide.per_round * args.rounds
    ) as side:
        await measure_side(side, args.rounds, samples)
    return samples


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("stall", __doc__)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def main() -> None:
    """Measure and record."""
    prepare_engines()
    args = parse()
    with fast_folder() as folder, tempfile.TemporaryDirectory() as store:
        metrics, spread = summarise(asyncio.run(measure(args, folder, Path(store))))
    path = write_record(
        args.json,
        name="stall",
        question="Do users feel it when somebody else's adapter arrives?",
        config={"streams": NUM_STREAMS, "tokens": NUM_TOKENS, "every_s": EVERY_S, "rank": 1},
        seed=SEED,
        warmup=1,
        repeats=args.rounds,
        metrics=metrics,
        spread=spread,
        ceiling="1.0: nobody notices",
        verdict=f"p99 gap {metrics['flora_gap_p99_ratio']:.2f} times that without arrivals"
        f" (target 1.1), vLLM's LoRA {metrics['lora_gap_p99_ratio']:.2f} times; with the requests"
        f" {metrics['flora_gap_p99_ratio_cold']:.2f} and {metrics['lora_gap_p99_ratio_cold']:.2f}",
    )
    console.print(metrics)
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
