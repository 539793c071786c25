"""Question: what does a door pay for choosing among a thousand replicas?

One door's fleet in which every replica reports 1,024 adapters; windows of 1, 8 and 64 requests by
Zipf's law. Times are this machine's. Ceiling: a window takes 2 ms to gather.
"""

import argparse
import tracemalloc
from random import Random
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.command import make_parser
from benchmarks.record import summarise, write_record
from contracts.replica import ReplicaReport
from routing.config import RoutingConfig
from routing.fleet import Fleet
from routing.policy import RouteRequest, RoutingPolicy, two_of
from routing.simulator.popularity import Popularity

SEED = 0
SIZES = (1, 8, 64)
NUM_RESIDENTS = 1024
ROUNDS = 50
console = Console(stderr=True)


def report(number: int, rng: np.random.Generator, old: tuple[int, ...] = ()) -> ReplicaReport:
    """What one replica might say: a tenth of its adapters are other ones than before."""
    words = Popularity(10_000_000).draw(2 * NUM_RESIDENTS, rng).tolist()
    kept = old[: NUM_RESIDENTS * 9 // 10]
    residents = tuple(dict.fromkeys([*kept, *words]))[:NUM_RESIDENTS]
    return ReplicaReport(number, int(rng.integers(5_000, 15_000)), 16, residents)


def measure(num_replicas: int) -> dict[str, list[float]]:
    """Samples by metric name."""
    rng = np.random.default_rng(SEED)
    fleet = Fleet(RoutingConfig())
    policy = RoutingPolicy(RoutingConfig(), two_of(Random(SEED)))
    reports = {f"replica-{n}": report(0, rng) for n in range(num_replicas)}
    tracemalloc.start()
    fleet.update(reports, 0.0)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    samples: dict[str, list[float]] = {f"fleet_{num_replicas}_bytes": [float(held_bytes)]}
    for size in SIZES:
        times = samples[f"window_of_{size}_us_{num_replicas}_replicas"] = []
        for _ in range(ROUNDS):
            words = Popularity(10_000_000).draw(size, rng).tolist()
            requests = [RouteRequest(word, 640.0) for word in words]
            started_s = perf_counter()
            policy.place(requests, fleet, 1.0)
            times.append((perf_counter() - started_s) * 1e6)
    times = samples[f"all_reports_us_{num_replicas}_replicas"] = []
    for number in range(1, 4):
        reports = {name: report(number, rng, old.residents) for name, old in reports.items()}
        started_s = perf_counter()
        fleet.update(reports, float(number))
        times.append((perf_counter() - started_s) * 1e6)
    return samples


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("decision", __doc__, model=False)
    parser.add_argument("--replicas", type=int, nargs="+", default=[100, 1000])
    return parser.parse_args()


def main() -> None:
    """Measure, show, record."""
    args = parse()
    samples: dict[str, list[float]] = {}
    for num_replicas in args.replicas:
        samples |= measure(num_replicas)
    metrics, spread = summarise(samples)
    table = Table("metric", "median")
    for name, value in metrics.items():
        table.add_row(name, f"{value:,.0f}")
    Console().print(table)
    path = write_record(
        args.json,
        name="decision",
        question="What does a door pay for choosing among a thousand replicas?",
        config={"num_residents": NUM_RESIDENTS, "replicas": args.replicas},
        seed=SEED,
        warmup=0,
        repeats=ROUNDS,
        metrics=metrics,
        spread=spread,
        ceiling="2000 us, in which a window gathers",
        verdict=", ".join(f"{name} {value:,.0f}" for name, value in metrics.items()),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
