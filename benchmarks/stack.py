"""Question: how much of the engine's speed reaches streaming clients, and what do others reach?

One run, one machine: a bare engine stays up, and one server at a time runs beside it: `flora serve`
as a user starts it, then variants of it, then vLLM's and Ray's own servers. A round is the engine
and the server in turn, in the other order every time; shares are those of one round, so a drift of
the machine favours nobody. The clients run on the same cores as the server, and are the same for
all. Ceiling: the bare engine, 1.0.
"""

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import httpx
from rich.console import Console
from rich.table import Table

from app.config import Settings
from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.peers import cause_of
from benchmarks.process_tree import cpu_between, server_process, use_by_role
from benchmarks.record import summarise, write_record
from benchmarks.stack_servers import Server, servers
from benchmarks.stack_sides import LONE_LOAD, NUM_ADAPTERS, EngineSide, Side
from benchmarks.stack_verdict import verdict
from benchmarks.vllm_methods import Load, Method
from replicas.config import ReplicaConfig

SEED = 0
NUM_LONE = 40
MAIN_LOAD = Load(32, NUM_ADAPTERS)
Samples = dict[str, list[float]]
console = Console(stderr=True)


async def measure(args: argparse.Namespace, folder: Path, samples: Samples) -> dict[str, str]:
    """Every server beside the bare engine; why those that did not run did not."""
    config = bare_config(args.model, Settings().replica)
    bare = Method("flora", 1, config, folder / "rows")
    absent = {}
    try:
        with console.status("starting the bare engine"):
            await bare.start(NUM_ADAPTERS)
        engine = EngineSide(bare)
        await engine.run(MAIN_LOAD, SEED)
        layout = await bare.layout()
        for server in servers(
            args.model,
            config.max_num_seqs,
            layout,
            console,
            packages=args.packages,
            quick=args.quick,
        ):
            if args.servers and server.name not in args.servers:
                continue
            try:
                with server.start(folder / server.name) as (url, sides):
                    async with asyncio.timeout(args.limit_s):
                        await measure_server(server, url, engine, sides, args.rounds, samples)
            except (RuntimeError, TimeoutError) as error:
                if server.is_ours:
                    raise
                absent[server.name] = cause_of(error)
                console.print(f"{server.name} did not run: {absent[server.name]}")
    finally:
        bare.stop()
    return absent


async def measure_server(
    server: Server,
    url: str,
    engine: EngineSide,
    sides: Sequence[Side],
    rounds: int,
    samples: Samples,
) -> None:
    """Loads of every size, then single requests."""
    before = counters(url) if server.is_ours else {}
    for side in sides:
        await side.run(MAIN_LOAD, SEED)
    for clients in server.clients:
        load = replace(MAIN_LOAD, num_sequences=clients)
        for number in range(1, (1 if clients > 64 else rounds) + 1):
            await measure_round(server, url, load, [engine, *sides], number, samples)
    if server.is_lone:
        for number in range(1, rounds + 1):
            await measure_lone(server, engine, sides, number, samples)
    if server.name == "flora":
        after = counters(url)
        tokens, messages = (
            after[name] - before[name]
            for name in ("flora_generated_tokens_total", "flora_step_messages_total")
        )
        samples["step_messages_per_token"].append(messages / tokens)


async def measure_round(
    server: Server, url: str, load: Load, sides: Sequence[Side], number: int, samples: Samples
) -> None:
    """All sides once."""
    process = server_process(port_of(url))
    clients = load.num_sequences
    speeds = {}
    for side in sides if number % 2 else reversed(sides):
        before = use_by_role(process)
        found = await side.run(load, SEED + 1000 * clients + number)
        speeds[side.name] = found.tokens_per_s
        label = server.label.format(side=side.name, clients=clients)
        if isinstance(side, EngineSide):
            label = f"engine{clients}"
        samples[f"{label}_tokens_per_s"].append(found.tokens_per_s)
        samples[f"{label}_ttft_ms_p50"].append(median(found.ttfts_s) * 1e3)
        if clients == MAIN_LOAD.num_sequences and side.name != "engine":
            num_tokens = clients * load.num_output_tokens
            for role, cpu_s in cpu_between(before, use_by_role(process)).items():
                samples[f"{label}_cpu_us_per_token_{role}"].append(cpu_s / num_tokens * 1e6)
    for side in sides[1:]:
        label = server.label.format(side=side.name, clients=clients)
        share = speeds[side.name] / speeds["engine"]
        samples[f"{label}_share_of_engine"].append(share)
        console.print(f"{label}: {speeds[side.name]:.0f} tokens/s, {share:.3f} of the engine")


async def measure_lone(
    server: Server, engine: EngineSide, sides: Sequence[Side], number: int, samples: Samples
) -> None:
    """One request after the other, to the engine and to each side in turn."""
    found: Samples = defaultdict(list)
    for i in range(NUM_LONE):
        seed = SEED - 1 - number * NUM_LONE - i + (1 << 30)
        found["engine"] += await engine.ttfts_s(LONE_LOAD, seed)
        for side in sides:
            found[side.name] += (await side.run(LONE_LOAD, seed)).ttfts_s
    own = median(found["engine"]) * 1e3
    samples["engine_lone_ttft_ms_p50"].append(own)
    for side in sides:
        label = server.label.format(side=side.name, clients="")
        samples[f"{label}_added_ttft_ms_p50"].append(median(found[side.name]) * 1e3 - own)


def counters(url: str) -> dict[str, float]:
    """What the server has counted, by name; one name's labels are added up."""
    found: dict[str, float] = defaultdict(float)
    for line in httpx.get(f"{url}/metrics", timeout=30).text.splitlines():
        if line and not line.startswith("#"):
            found[line.split("{", 1)[0].split(" ", 1)[0]] += float(line.rsplit(" ", 1)[1])
    return found


def port_of(url: str) -> int:
    """The TCP port of a URL that names one."""
    return int(url.rpartition(":")[2])


def bare_config(model: Path, served_config: ReplicaConfig) -> ReplicaConfig:
    """The served engine's settings, as far as they bear on speed."""
    return ReplicaConfig(
        str(model),
        dtype="bfloat16",
        num_slots=served_config.num_slots,
        max_num_seqs=served_config.max_num_seqs,
        max_rank=served_config.max_rank,
        enforce_eager=served_config.enforce_eager,
    )


def show(metrics: dict[str, float]) -> None:
    """The medians as a table for people."""
    table = Table("metric", "median")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.3f}")
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("stack", __doc__)
    parser.add_argument("--quick", action="store_true", help="two servers, one round")
    parser.add_argument("--rounds", type=int, default=0, help="rounds a load (3; quick: 1)")
    parser.add_argument("--servers", nargs="*", help="only these, such as flora or vllm_serve")
    parser.add_argument("--packages", default="", help="folder with pyarrow, for ray.serve.llm")
    parser.add_argument("--limit-s", type=float, default=300.0, help="most seconds a server")
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 3)
    return args


def main() -> None:
    """Measure, show, record."""
    prepare_engines()
    args = parse()
    samples: Samples = defaultdict(list)
    with fast_folder() as folder:
        absent = asyncio.run(measure(args, folder, samples))
    metrics, spread = summarise(samples)
    show(metrics)
    path = write_record(
        args.json,
        name="stack",
        question="How much of the engine's speed reaches streaming clients, and what do others"
        " reach?",
        config={"load": str(MAIN_LOAD), "quick": args.quick, "did_not_run": absent},
        seed=SEED,
        warmup=1,
        repeats=args.rounds,
        metrics=metrics,
        spread=spread,
        ceiling="1.0 of the bare engine; the clients share the server's cores",
        verdict=verdict(metrics),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
