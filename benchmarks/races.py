"""Question: is anybody ever answered by a version that was not current, or by a mixture?

Publishes, rollbacks, deletes, evictions from every tier and garbage collection race 64 readers over
a whole stack in one process: window, replica with its follower of changes, node cache too small for
all, Valkey, object store. The engine is the echo engine, whose tokens name the bytes that made
them, or vLLM (`--engine vllm`), whose greedy answers were taken beforehand adapter by adapter. Each
answer must come wholly from one digest that was current at some moment between its arrival and its
first token. Ceiling: none wrong.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
from rich.console import Console

from adapter_cache.config import CacheConfig
from adapter_cache.node_cache import NodeCache
from adapter_cache.valkey_server import ValkeyServer
from app.stores import open_stores
from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.pointer_history import PointerHistory
from benchmarks.race import JUDGE_S, NUM_READERS, Outcome, Races
from benchmarks.record import write_record
from replicas.assembly import Assembly, make_engine
from replicas.config import ReplicaConfig

console = Console(stderr=True)


@asynccontextmanager
async def races(config: ReplicaConfig, folder: Path, seed: int) -> AsyncIterator[Races]:
    """The whole stack, started. Its node cache holds less than half of the adapters."""
    with ValkeyServer.start(folder / "valkey") as valkey:
        cache = CacheConfig(
            redis_url=valkey.url,
            object_store_url=f"file://{folder / 'objects'}",
            node_cache_dir=folder / "node",
            node_cache_bytes=node_bytes(config),
            negative_ttl_s=0.0,
        )
        stores = open_stores(cache)
        assembly = Assembly(make_engine(config), cache, config.fair_limits)
        node = NodeCache(cache.node_cache_dir, cache.node_cache_bytes)
        try:
            await assembly.replica.start()
            yield Races(stores, assembly.replica, node, np.random.default_rng(seed))
        finally:
            await assembly.close()
            await stores.close()


def node_bytes(config: ReplicaConfig) -> int:
    """Room for ten rows, whatever the engine's layout."""
    return 10 * (1 << 10 if config.engine == "echo" else 1 << 20)


def report(outcome: Outcome, history: PointerHistory) -> dict[str, float]:
    """The record's metrics."""
    return {
        "answers": outcome.answers,
        "absent_answers": outcome.absent,
        "pointer_moves": history.num_moves,
        "errors": sum(outcome.errors.values()),
        "wrong_answers": len(outcome.wrong),
    }


async def measure(args: argparse.Namespace, folder: Path) -> tuple[dict[str, float], Outcome]:
    """One run."""
    config = ReplicaConfig(
        str(args.model),
        engine=args.engine,
        dtype="float32",
        num_slots=NUM_READERS + 8,
        max_num_seqs=NUM_READERS,
        max_rank=1,
        max_model_len_tokens=128,
    )
    async with races(config, folder, args.seed) as run:
        await run.prepare(args.scale)
        with console.status(f"racing for {args.seconds} s"):
            await run.run(args.seconds)
        await asyncio.sleep(JUDGE_S + 0.5)
        return report(run.outcome, run.history), run.outcome


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("races", __doc__)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--engine", choices=("echo", "vllm"), default="echo")
    parser.add_argument("--scale", type=float, default=0.3, help="of the adapters' deviations")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    """Race, judge, record; 1 where an answer was wrong."""
    prepare_engines()
    args = parse()
    with fast_folder() as folder:
        metrics, outcome = asyncio.run(measure(args, folder))
    for line in outcome.wrong[:20]:
        console.print(line)
    console.print(dict(outcome.errors))
    path = write_record(
        args.json,
        name="races" if args.engine == "echo" else "races-vllm",
        question="Is anybody ever answered by a version that was not current, or by a mixture?",
        config={"engine": args.engine, "seconds": args.seconds, "readers": NUM_READERS},
        seed=args.seed,
        warmup=0,
        repeats=1,
        metrics=metrics,
        ceiling="no wrong answer",
        verdict=f"{len(outcome.wrong)} of {outcome.answers + outcome.absent} answers were wrong",
    )
    console.print(metrics)
    console.print(f"record: {path}")
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
