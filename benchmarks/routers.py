"""Question: does it matter which replica gets a request?

Replicas over real engines, each with few device slots and a node cache of its own that holds a
part of the adapters: a request at the wrong replica costs a fetch from Valkey and a load to the
device. The same seeded arrivals go to fresh replicas by each router:
  flora      windows of 2 ms, placed as a whole by residency, homes and outstanding tokens
  pow2       Ray Serve's default, the less busy of two
  multiplex  the same over serve.multiplexed, which tells the router who has loaded what
  hash       Serve's consistent hashing, the adapter as session
  robin      Serve's round robin
Loads: "zipf", Poisson arrivals for Zipf(1.0) adapters; "azure", times and lengths of the Azure LLM
traces of 2023 (CC BY 4.0, https://github.com/Azure/AzurePublicDataset; `--data` names them; both
clipped and scaled, so that they ask for as much as "zipf"); both for `LOAD` of what flora's side
did when it was full. And full: one adapter with 60 % of the requests ("hot") against all alike
("uniform"). Serve's own routers decide a call at a time, so that each request has a stream of its
own; flora's share one a replica, as they do in the server.
Ceiling: hit rates of 1.0, imbalances of 1.0, a hot share that costs nothing (target: within 10 %).
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.ray_fleet import NODE_ROWS
from benchmarks.ray_router_runs import NUM_SLOTS, SEED, measure
from benchmarks.ray_sides import SIDES
from benchmarks.record import summarise, write_record

console = Console(stderr=True)


def verdict(metrics: dict[str, float], routers: Sequence[str]) -> str:
    """Hit rates, waits and the hot share of each router."""
    return "; ".join(
        f"{name}: {metrics[f'zipf_{name}_node_hit_rate']:.2f} of zipf's adapters on the node,"
        f" p95 TTFT {metrics[f'zipf_{name}_ttft_p95_ms']:.0f} ms,"
        f" hot share {metrics[f'{name}_hot_share_throughput']:.2f}"
        for name in routers
    )


def show(metrics: dict[str, float], routers: Sequence[str]) -> None:
    """A row for each metric, a column for each router."""
    table = Table("metric", *routers)
    rows: dict[str, dict[str, float]] = defaultdict(dict)
    for key, value in metrics.items():
        name = next(name for name in routers if name in key.split("_"))
        rows[key.replace(f"{name}_", "", 1)][name] = value
    for row, values in rows.items():
        table.add_row(row, *(f"{values[name]:.3f}" for name in routers))
    Console().print(table)


def parse() -> argparse.Namespace:
    """The command line. Ends the process where the traces are absent."""
    parser = make_parser("routers", __doc__)
    parser.add_argument("--engine", choices=("vllm", "echo"), default="vllm")
    parser.add_argument("--replicas", type=int, default=2, help="with a thread each")
    parser.add_argument("--adapters", type=int, default=128)
    parser.add_argument("--routers", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--rounds", type=int, default=0, help="rounds a router (3; quick: 1)")
    parser.add_argument("--seconds", type=float, default=0, help="a load (40; quick: 8)")
    parser.add_argument("--tokens-per-s", type=float, default=0, help="in place of 0.6 of full")
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/azure_llm_trace_2023"))
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 3)
    args.seconds = args.seconds or (8.0 if args.quick else 40.0)
    if not args.data.is_dir():
        parser.error(f"there are no Azure traces in {args.data}: name their folder with --data")
    return args


def main() -> None:
    """Measure, show, record."""
    prepare_engines()
    args = parse()
    with fast_folder() as folder:
        metrics, spread = summarise(measure(args, folder))
    show(metrics, args.routers)
    path = write_record(
        args.json,
        name="routers" if args.engine == "vllm" else f"routers-{args.engine}",
        question="Does it matter which replica gets a request?",
        config={
            "engine": args.engine,
            "replicas": args.replicas,
            "adapters": args.adapters,
            "node_rows": NODE_ROWS,
            "slots": NUM_SLOTS,
            "seconds": args.seconds,
        },
        seed=SEED,
        warmup=1,
        repeats=args.rounds,
        metrics=metrics,
        spread=spread,
        ceiling="hit rates of 1.0, imbalances of 1.0, a hot share that costs nothing",
        verdict=verdict(metrics, args.routers),
    )
    console.print(verdict(metrics, args.routers))
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
