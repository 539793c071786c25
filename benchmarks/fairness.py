"""Question: does one tenant's flood of requests slow the others down?

One replica over a real engine. Four victims ask now and then (Poisson arrivals, the same ones in
every phase); one abuser asks 50 times as often as each of them, which is far more than the engine
can do, so that its queue only grows. "alone" is the same without the abuser; "fifo" is the abuser
with the fair queue off: everything goes to vLLM as it comes.

The victims' load: together they ask for `LOAD` of the tokens per second that the same engine gave
when it was full of the same requests, so that there is room for all of them and each asks for less
than a fifth of the engine. Every request has `PROMPT` tokens and `ANSWER` tokens, all of them
generated. Ceiling: 1.0 would be an engine whose steps do not get longer with more sequences, which
no engine is; a first token can't come before the step at work has ended and the prompt's own step
has, and both carry the abuser's sequences.

Fair shares are measured apart: tenants that all ask for more than they get, of equal weight and of
weights 1, 2 and 4. Ceiling of Jain's index: 1.0.
"""

import argparse
import asyncio
import os
import signal
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from benchmarks.record import summarise, write_record
from benchmarks.tenant_load import Tally, Tenants, running
from replicas.config import ReplicaConfig
from replicas.fair_gate import FairGate
from replicas.fair_limits import FairLimits

SEED = 0
LEAD_S = 2.0
PATIENCE_S = 4.0
NUM_VICTIMS = 4
ABUSE = 50
PROMPT = 64
ANSWER = 32
LOAD = 0.5

NO_QUEUE = FairLimits(max_num_seqs=1 << 60, reserved_seqs=0, max_prefill_tokens=1 << 60)

Samples = dict[str, list[float]]
console = Console(stderr=True)


@asynccontextmanager
async def cancelled_at_end(*works: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Background work of a phase."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def capacity(tenants: Tenants, gate: FairGate, num: int, seconds: float) -> float:
    """Requests per second of an engine that is kept full with `num` at a time."""
    tally = tenants.begin(gate)
    async with cancelled_at_end(tenants.keep_asking("abuser", num)):
        await asyncio.sleep(seconds / 4)
        before = tally.tokens.total()
        await asyncio.sleep(seconds)
        return (tally.tokens.total() - before) / ANSWER / seconds


async def flood(tenants: Tenants, gate: FairGate, rate: float, abuse: int, seconds: float) -> Tally:
    """Victims at `rate` requests per second each, the abuser at `abuse` times that."""
    tally = tenants.begin(gate)
    rng = np.random.default_rng(SEED)
    arrivals = {f"victim-{i}": poisson(rng, rate, seconds) for i in range(NUM_VICTIMS)}
    storm = [tenants.follow("abuser", poisson(rng, rate * abuse, 1.5 * seconds))] if abuse else []
    async with cancelled_at_end(*storm):
        # The flood is there before those that it could hurt.
        await asyncio.sleep(LEAD_S if abuse else 0.0)
        asking = (tenants.follow(name, times) for name, times in arrivals.items())
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + PATIENCE_S):
                await asyncio.gather(*asking)
    return tally


def poisson(rng: np.random.Generator, rate: float, seconds: float) -> list[float]:
    """Arrival times."""
    times = np.cumsum(rng.exponential(1 / rate, int(2 * rate * seconds) + 10))
    return [float(t) for t in times if t < seconds]


def jain(values: Sequence[float]) -> float:
    """Jain's index: 1 where all are equal, 1/n where one has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares)


async def shares(
    tenants: Tenants, gate: FairGate, weights: Mapping[str, float], num: int, seconds: float
) -> float:
    """Jain's index of tokens served per weight of tenants that always have `num` requests here."""
    tally = tenants.begin(gate)
    works = [tenants.keep_asking(name, num, weight) for name, weight in weights.items()]
    async with cancelled_at_end(*works):
        # From the first generation on, which all began at once.
        await asyncio.sleep(3.0)
        before = Counter(tally.tokens)
        await asyncio.sleep(seconds)
        served = tally.tokens - before
    console.print({name: served[name] for name in weights})
    return jain([served[name] / weight for name, weight in weights.items()])


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each phase takes in seconds, and how often there is one."""

    rounds: int
    phase_s: float
    fifo_s: float
    shares_s: float


async def measure(tenants: Tenants, limits: FairLimits, plan: Plan) -> Samples:
    """All phases over one engine, "alone" and "abused" in turn."""
    samples: Samples = defaultdict(list)
    num_seqs = limits.max_num_seqs
    await capacity(tenants, FairGate(limits), num_seqs, 2.0)
    full = await capacity(tenants, FairGate(limits), 2 * num_seqs, 8.0)
    rate = LOAD * full / NUM_VICTIMS
    samples["capacity_tokens_per_s"].append(full * ANSWER)
    samples["victim_requests_per_s"].append(rate)
    rng = np.random.default_rng(SEED)
    for _ in range(plan.rounds):
        found = {}
        for abuse in rng.permutation([0, ABUSE]):
            found[abuse] = await flood(tenants, FairGate(limits), rate, int(abuse), plan.phase_s)
        note(samples, found[0], found[ABUSE], plan.phase_s)
    fifo = await flood(tenants, FairGate(NO_QUEUE), rate, ABUSE, plan.fifo_s)
    samples["fifo_victim_ttft_p95_ms"].append(percentile_ms(fifo, 95))
    ratio = percentile_ms(fifo, 95) / float(np.median(samples["victim_ttft_p95_alone_ms"]))
    samples["fifo_victim_ttft_p95_ratio"].append(ratio)
    equal = {f"victim-{i}": 1.0 for i in range(NUM_VICTIMS)}
    uneven = {f"victim-{i}": weight for i, weight in enumerate((1.0, 2.0, 4.0))}
    for name, weights in (("jain_index", equal), ("jain_index_weights_1_2_4", uneven)):
        # So many that all of them always have some waiting.
        num = 2 * limits.max_running_seqs
        index = await shares(tenants, FairGate(limits), weights, num, plan.shares_s)
        samples[name].append(index)
    return samples


def note(samples: Samples, alone: Tally, abused: Tally, seconds: float) -> None:
    """What one round says."""
    for percent in (50, 95):
        apart = percentile_ms(abused, percent), percentile_ms(alone, percent)
        samples[f"victim_ttft_p{percent}_alone_ms"].append(apart[1])
        samples[f"victim_ttft_p{percent}_abused_ms"].append(apart[0])
        samples[f"victim_ttft_p{percent}_ratio"].append(apart[0] / apart[1])
    samples["abused_tokens_per_s"].append(abused.tokens.total() / (seconds + LEAD_S))
    samples["abuser_share_of_tokens"].append(abused.tokens["abuser"] / abused.tokens.total())
    console.print({name: round(values[-1], 2) for name, values in samples.items()})


def percentile_ms(tally: Tally, percent: float) -> float:
    """Time to first token of all victims' requests, those without one by how long they waited."""
    times_s = [t for name, values in tally.ttft_s.items() if name != "abuser" for t in values]
    return float(np.percentile(times_s, percent)) * 1e3


def make_config(args: argparse.Namespace) -> ReplicaConfig:
    """bf16, eager; what the queue lets in comes from the command line."""
    return ReplicaConfig(
        str(args.model),
        dtype="bfloat16",
        max_model_len_tokens=1024,
        max_num_seqs=args.max_num_seqs,
        max_prefill_tokens=args.max_prefill_tokens,
        held_share=args.held_share,
        max_rank=1,
        kv_cache_bytes=512 << 20,
        enforce_eager=True,
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="flora bench fairness", description=__doc__)
    parser.add_argument("--json", type=Path, help="where the record goes")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m-instruct"))
    parser.add_argument("--max-num-seqs", type=int, default=16)
    parser.add_argument("--max-prefill-tokens", type=int, default=64)
    parser.add_argument("--held-share", type=float, default=ReplicaConfig("").held_share)
    return parser.parse_args()


async def run(args: argparse.Namespace, folder: Path) -> Samples:
    """Start, measure, stop."""
    config = make_config(args)
    plan = Plan(1, 5.0, 4.0, 4.0) if args.quick else Plan(args.rounds, 40.0, 8.0, 12.0)
    names = ["abuser", *(f"victim-{i}" for i in range(NUM_VICTIMS))]
    async with running(config, folder, names, prompt=PROMPT, answer=ANSWER) as tenants:
        return await measure(tenants, config.fair_limits, plan)


def main() -> None:
    """Measure and record."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args = parse()
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        metrics, spread = summarise(asyncio.run(run(args, Path(folder))))
    ratio, index = metrics["victim_ttft_p95_ratio"], metrics["jain_index"]
    path = write_record(
        args.json,
        name="fairness",
        question="Does one tenant's flood of requests slow the others down?",
        config={
            "victims": NUM_VICTIMS,
            "abuse": ABUSE,
            "load": LOAD,
            "prompt_tokens": PROMPT,
            "answer_tokens": ANSWER,
            "max_num_seqs": args.max_num_seqs,
            "max_prefill_tokens": args.max_prefill_tokens,
            "held_share": args.held_share,
        },
        seed=SEED,
        warmup=1,
        repeats=1 if args.quick else args.rounds,
        metrics=metrics,
        spread=spread,
        ceiling="1.0: nobody notices; not with steps that take longer with more sequences",
        verdict=f"p95 TTFT of the others {ratio:.2f} times that without the flood (target 1.3),"
        f" {metrics['fifo_victim_ttft_p95_ratio']:.0f} times without the fair queue; Jain's index"
        f" of backlogged tenants {index:.3f}, with weights 1:2:4"
        f" {metrics['jain_index_weights_1_2_4']:.3f} (target 0.95)",
    )
    console.print(metrics)
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
