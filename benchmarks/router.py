"""Question: what does it cost to decide where a window of requests goes, and how does it grow?

The policy of routing/ places windows of 1, 8 and 64 requests over 10, 100 and 1000 replicas:
Zipf(1.0) over 10^6 adapters, a tenth of the requests the base model's, 1024 residents reported by
each replica, loads that move. Beside it: taking in one new report of so many, and what Ray Serve
does for each request by default, the less loaded of two replicas drawn at random, as bare Python.
Ceiling: one pass over the loads, `argmin` of numpy, for each request.
Target: 1 ms a window of 64 and 20 microseconds a request over 1000 replicas.
"""

import argparse
import random
from collections import defaultdict
from collections.abc import Callable
from time import perf_counter

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.command import make_parser
from benchmarks.record import summarise, write_record
from benchmarks.router_traffic import (
    BASE_SHARE,
    NUM_ADAPTERS,
    NUM_RESIDENTS,
    RouterTraffic,
)
from routing.config import RoutingConfig
from routing.policy import RoutingPolicy

REPLICAS = (10, 100, 1000)
WINDOWS = (1, 8, 64)
NUM_WARMUP = 200

Samples = dict[str, list[float]]
console = Console(stderr=True)


def elapsed_us(call: Callable[[], object]) -> float:
    """Microseconds of one call."""
    started_s = perf_counter()
    call()
    return (perf_counter() - started_s) * 1e6


def decide_us(policy: RoutingPolicy, traffic: RouterTraffic, size: int) -> float:
    """One window placed and sent; one replica reports after it. Only the placing is timed."""
    window = traffic.window(size)
    started_s = perf_counter()
    placements = policy.place(window, traffic.fleet, traffic.now_s)
    found_us = (perf_counter() - started_s) * 1e6
    assert placements is not None
    assert len(placements) == size
    traffic.send(window, placements)
    return found_us


def report_us(traffic: RouterTraffic) -> float:
    """One new report among all that are known."""
    reports = traffic.next_reports()
    return elapsed_us(lambda: traffic.fleet.update(reports, traffic.now_s))


def power_of_two(replica_ids: list[str], loads: dict[str, float]) -> str:
    """The less loaded of two."""
    first, second = random.sample(replica_ids, 2)
    return first if loads[first] <= loads[second] else second


def measure_references(traffic: RouterTraffic, count: int, name: str, samples: Samples) -> None:
    """What is cheap: medians of the bare choice of two, and of one pass over the loads."""
    ids = list(traffic.fleet.replica_ids)
    table = traffic.fleet.loads(traffic.now_s)
    loads = {replica_id: float(load) for replica_id, load in zip(ids, table, strict=False)}
    of_two = [elapsed_us(lambda: power_of_two(ids, loads)) for _ in range(count)]
    passes = [elapsed_us(table.argmin) for _ in range(count)]
    samples[f"power_of_two_us_per_request_{name}"].append(float(np.median(of_two)))
    samples[f"loads_pass_us_{name}"].append(float(np.median(passes)))


def measure_round(num_replicas: int, count: int, seed: int, samples: Samples) -> None:
    """`count` windows of each size on one fleet, sizes in turn; medians and 99th percentiles.

    The fleet works for 20 simulated seconds before.
    """
    name, config = f"r{num_replicas}", RoutingConfig()
    traffic, policy = RouterTraffic(num_replicas, config, seed), RoutingPolicy(config)
    times: Samples = defaultdict(list)
    # Hot adapters spread for as long as what was sent is believed without a report.
    while traffic.now_s < 2 * config.learned_s:
        decide_us(policy, traffic, WINDOWS[-1])
    for turn in range(NUM_WARMUP + count):
        for size in WINDOWS:
            found_us = decide_us(policy, traffic, size)
            taken_us = report_us(traffic)
            if turn >= NUM_WARMUP:
                times[f"window{size}_us_{name}"].append(found_us)
                times[f"report_us_{name}"].append(taken_us)
    for key, values in times.items():
        samples[key].append(float(np.median(values)))
        samples[f"{key}_p99"].append(float(np.percentile(values, 99)))
    measure_references(traffic, count, name, samples)


def add_headlines(samples: Samples) -> None:
    """What the targets are about, of the same samples: a request, a window of 64, a report."""
    for num_replicas in REPLICAS:
        name = f"r{num_replicas}"
        windows = samples[f"window64_us_{name}"]
        samples[f"decision_us_per_request_{name}"] = [us / 64 for us in windows]
        samples[f"window_ms_{name}"] = [us / 1e3 for us in windows]
        samples[f"window_ms_{name}_p99"] = [us / 1e3 for us in samples[f"window64_us_{name}_p99"]]
        of_two = samples[f"power_of_two_us_per_request_{name}"]
        samples[f"decision_to_power_of_two_ratio_{name}"] = [
            us / 64 / cheap for us, cheap in zip(windows, of_two, strict=True)
        ]
    samples["report_us"] = samples["report_us_r1000"]
    samples["report_us_p99"] = samples["report_us_r1000_p99"]


def show(metrics: dict[str, float]) -> None:
    """Medians as a table for people: a row for each number of replicas."""
    table = Table("replicas", "window of 1, µs", "of 8", "of 64 (p99)", "a request", "of two")
    table.add_column("report (p99)")
    for num_replicas in REPLICAS:
        name = f"r{num_replicas}"
        table.add_row(
            str(num_replicas),
            *(f"{metrics[f'window{size}_us_{name}']:.1f}" for size in (1, 8)),
            f"{metrics[f'window64_us_{name}']:.0f} ({metrics[f'window64_us_{name}_p99']:.0f})",
            f"{metrics[f'decision_us_per_request_{name}']:.2f}",
            f"{metrics[f'power_of_two_us_per_request_{name}']:.2f}",
            f"{metrics[f'report_us_{name}']:.0f} ({metrics[f'report_us_{name}_p99']:.0f})",
        )
    Console(width=110).print(table)


def verdict(metrics: dict[str, float]) -> str:
    """The targets, the growth and the ratio in one line."""
    return (
        f"over 1000 replicas a window of 64 takes {metrics['window_ms_r1000']:.2f} ms (target 1;"
        f" p99 {metrics['window_ms_r1000_p99']:.2f}),"
        f" {metrics['decision_us_per_request_r1000']:.1f} µs a request (target 20),"
        f" over 10 replicas {metrics['decision_us_per_request_r10']:.1f} µs;"
        f" {metrics['decision_to_power_of_two_ratio_r1000']:.1f} times the bare choice of two;"
        f" a report takes {metrics['report_us']:.0f} µs"
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("router", __doc__, model=False)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--windows", type=int, default=2000, help="windows of each size a round")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    """Measure, show, record."""
    args = parse()
    rounds, count = (1, 200) if args.quick else (args.rounds, args.windows)
    random.seed(args.seed)
    samples: Samples = defaultdict(list)
    for turn in range(rounds):
        for num_replicas in REPLICAS:
            with console.status(f"round {turn + 1}: {num_replicas} replicas"):
                measure_round(num_replicas, count, args.seed + turn, samples)
    add_headlines(samples)
    metrics, spread = summarise(samples)
    show(metrics)
    path = write_record(
        args.json,
        name="router",
        question="What does it cost to decide where a window of requests goes?",
        config={
            "num_adapters": NUM_ADAPTERS,
            "num_residents": NUM_RESIDENTS,
            "base_share": BASE_SHARE,
            "num_windows": count,
        },
        seed=args.seed,
        warmup=NUM_WARMUP,
        repeats=rounds,
        metrics=metrics,
        spread=spread,
        ceiling="one pass over the loads for each request: the loads_pass metrics",
        verdict=verdict(metrics),
    )
    console.print(verdict(metrics))
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
