"""Question: does a server that is used in every way for a long time keep anything?

`flora serve` with keys, quotas and mixed load over HTTP: streams, answers, clients that leave at
any moment, requests that take too long, publishes, rollbacks, deletes, and bad requests. In
between it rests, and is read: memory, file descriptors and threads of its processes, tasks of its
event loops, running and waiting requests, device slots, pinned blobs, leases of streams in Redis.
The first reading comes after the first part of the load, when pools and caches are warm; the last
one is compared with it. Ceiling: nothing grows.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil  # type: ignore[import-untyped]
from rich.console import Console
from rich.table import Table

from adapter_cache.redis_connect import RedisClients
from adapter_cache.valkey_server import ValkeyServer
from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.llama_layout import llama_layout
from benchmarks.process_tree import server_process
from benchmarks.record import write_record
from benchmarks.served import served
from benchmarks.soak_gauges import MUST_BE_ZERO, Allowance, leaks, read_gauges
from benchmarks.soak_load import MixedLoad, Outcome
from benchmarks.uploads import write_uploads
from flora.layout import AdapterLayout
from replicas.echo_engine import EchoEngine

NUM_PARTS = 5
REST_S = 20.0
REQUEST_TIMEOUT_S = 3.0
ECHO_STEP_S = 0.01
LATE_TOKENS = 1500
console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Soak:
    """What came out: one reading a part of the load, and every answer."""

    readings: list[dict[str, float]]
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Target:
    """The server under load and what is needed to look at it."""

    url: str
    key: str
    redis_url: str
    node_cache: Path
    process: psutil.Process


def run(args: argparse.Namespace, folder: Path) -> Soak:
    """Start the server and its store, put load on it, and read it."""
    with ValkeyServer.start(folder / "valkey-0") as valkey:
        settings = [
            f"cache.redis_url={valkey.url}",
            f"cache.object_store_url=file://{folder / 'objects'}",
        ]
        options = [
            *settings,
            "auth.required=true",
            f"server.request_timeout_s={REQUEST_TIMEOUT_S}",
            f"replica.engine={args.engine}",
            f"replica.echo_step_s={ECHO_STEP_S}",
        ]
        key = make_key(settings)
        flags = [part for option in options for part in ("--set", option)]
        with served(args.model, folder, console, *flags) as url:
            process = server_process(int(url.rpartition(":")[2]))
            target = Target(url, key, valkey.url, folder / "node", process)
            return asyncio.run(soak(target, args))


def make_key(settings: list[str]) -> str:
    """A key that may do everything, with quotas that are charged and never reached."""
    flags = [part for setting in settings for part in ("--set", setting)]
    for scope in ("generate", "adapters:read", "adapters:write", "admin"):
        flags += ["--scope", scope]
    for limit in ("requests-per-min", "tokens-per-min", "max-streams"):
        flags += [f"--{limit}", "100000000"]
    command = [sys.executable, "-m", "app.cli", "keys", "create", "--json", *flags]
    made = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return str(json.loads(made)["key"])


async def soak(target: Target, args: argparse.Namespace) -> Soak:
    """Parts of load, each followed by a rest and a reading."""
    uploads = write_uploads(await layout_of(args), 8)
    rng = np.random.default_rng(args.seed)
    base = args.model.name.lower()
    load = MixedLoad(target.url, target.key, base, uploads, rng, LATE_TOKENS)
    clients = RedisClients.connect(target.redis_url)
    readings = []
    try:
        for number in range(1, NUM_PARTS + 1):
            await load.run(args.seconds / NUM_PARTS, args.clients)
            readings.append(await rest(target, clients))
            console.print(f"part {number}: {len(load.outcome.wrong)} wrong answers", readings[-1])
    finally:
        await load.close()
        await clients.close()
    return Soak(readings, load.outcome)


async def layout_of(args: argparse.Namespace) -> AdapterLayout:
    """The layout that the served engine will have."""
    if args.engine == "echo":
        return AdapterLayout.from_json((await EchoEngine().start()).layout_json)
    return llama_layout(args.model, "bfloat16", max_rank=4)


async def rest(target: Target, clients: RedisClients) -> dict[str, float]:
    """The gauges once nothing runs any more, or after `REST_S`."""
    headers = {"Authorization": f"Bearer {target.key}"}
    async with httpx.AsyncClient(base_url=target.url, timeout=30, headers=headers) as http:
        async with asyncio.timeout(REST_S + 30):
            for _ in range(int(REST_S)):
                await asyncio.sleep(1)
                page = (await http.get("/metrics")).text
                leases = await count_leases(clients)
                found = read_gauges(target.process, page, target.node_cache, leases)
                if not any(found.get(name) for name in MUST_BE_ZERO):
                    break
        await asyncio.sleep(1)
        page = (await http.get("/metrics")).text
        return read_gauges(target.process, page, target.node_cache, leases)


async def count_leases(clients: RedisClients) -> int:
    """Streams that Redis believes to be open."""
    async with clients.reading() as client:
        names = [name async for name in client.scan_iter("*:quota:*:streams")]
        return sum([await client.zcard(name) for name in names])


def verdict(result: Soak, found: list[str]) -> str:
    """One line: what was asked, and what stayed behind."""
    total = sum(result.outcome.statuses.values())
    wrong = len(result.outcome.wrong)
    kept = f"leaks: {'; '.join(found)}" if found else "no leak"
    return f"{kept}; {wrong} of {total} answers were wrong"


def metrics_of(result: Soak) -> dict[str, float]:
    """First and last plateau by gauge, and the answers."""
    metrics = {
        "answers": float(sum(result.outcome.statuses.values())),
        "wrong_answers": float(len(result.outcome.wrong)),
    }
    for name in sorted(result.readings[-1]):
        metrics[f"{name}_before"] = result.readings[0].get(name, 0.0)
        metrics[f"{name}_after"] = result.readings[-1][name]
    return metrics


def show(result: Soak) -> None:
    """Every plateau as a table for people."""
    table = Table("gauge", *(f"part {i + 1}" for i in range(len(result.readings))))
    for name in sorted(result.readings[-1]):
        table.add_row(name, *(f"{reading.get(name, 0):g}" for reading in result.readings))
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("soak", __doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of load, rests apart")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--engine", choices=("echo", "vllm"), default="echo")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    """Load, read, compare, record; 1 where something leaks or an answer was wrong."""
    prepare_engines()
    args = parse()
    with fast_folder() as folder:
        result = run(args, folder)
    found = leaks(result.readings[0], result.readings[-1], Allowance())
    show(result)
    for line in result.outcome.wrong[:20]:
        console.print(line, markup=False)
    path = write_record(
        args.json,
        name="soak" if args.engine == "echo" else "soak-vllm",
        question="Does a server that is used in every way for a long time keep anything?",
        config={
            "engine": args.engine,
            "seconds": args.seconds,
            "clients": args.clients,
            "answers": dict(sorted(result.outcome.statuses.items())),
        },
        seed=args.seed,
        warmup=1,
        repeats=NUM_PARTS,
        metrics=metrics_of(result),
        ceiling="nothing grows between two plateaus",
        verdict=verdict(result, found),
    )
    console.print(verdict(result, found))
    console.print(f"record: {path}")
    return 1 if found or result.outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
