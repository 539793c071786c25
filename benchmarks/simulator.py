"""Question: what does the choice of replicas decide, with a hundred of them and with a thousand?

The policy that serves, on a model of replicas (docs/decisions/0020-steps-that-are-alike-are-one-
event.md), against what others do and a greedy oracle; the same arrivals for all. Replicas are the
`h100` profile, whose constants are assumed: compare routers with each other, not with a clock. The
engine model itself is checked against measured CPU engines. The first quarter of each run is not
counted. The seed decides every number. Real arrivals, the Azure trace of 2023, are used where
`--data` has them. Ceiling: the oracle, greedy as it is.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.calibration import calibration_metrics, worst_error
from benchmarks.command import make_parser
from benchmarks.record import write_record
from routing.simulator.comparison import Comparison
from routing.simulator.outcome import Outcome
from routing.simulator.popularity import Popularity
from routing.simulator.profile import H100
from routing.simulator.routers import ROUTERS
from routing.simulator.scene import Event, Scene

SEED = 0
NUM_ADAPTERS = 10_000_000
ZIPF = Popularity(NUM_ADAPTERS)
SHOWN = {
    "device_hit_rate": "device_hit_rate",
    "reuse_device_hit_rate": "reuse_device_hit_rate",
    "redis_rate": "redis_rate",
    "imbalance": "imbalance_ratio",
    "ttft_p50_s": "ttft_p50_s",
    "ttft_p95_s": "ttft_p95_s",
    "ttft_p99_s": "ttft_p99_s",
    "gap_p50_s": "gap_p50_s",
    "gap_p99_s": "gap_p99_s",
    "tokens_per_s": "tokens_per_s",
    "busy_share": "busy_share",
    "moved_share": "moved_share",
    "resent": "resent_requests",
    "redis_fetches_per_s": "redis_fetches_per_s",
    "reports_bytes_per_s": "reports_bytes_per_s",
}
"""What is recorded of an outcome, and under which name."""
console = Console(stderr=True)


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison of all routers."""

    num_replicas: int
    num_doors: int
    seconds: float
    popularity: Popularity = ZIPF
    trace: str = "poisson"
    events: tuple[Event, ...] = ()

    def comparison(self, data: Path) -> Comparison:
        """It, with everything decided."""
        scene = Scene(H100, self.num_replicas, self.num_doors, self.events)
        return Comparison(
            scene, self.popularity, self.trace, seconds=self.seconds, seed=SEED, data=data
        )


CASES: Mapping[str, Case] = {
    "zipf_100": Case(100, 16, 20.0),
    "uniform_100": Case(100, 16, 20.0, Popularity(NUM_ADAPTERS, 0.0)),
    "hot_100": Case(100, 16, 20.0, Popularity(NUM_ADAPTERS, 1.0, 0.6)),
    "azure_conv_100": Case(100, 16, 30.0, trace="azure-conv"),
    "loss_100": Case(100, 16, 20.0, events=(Event(12.0, "kill", 7),)),
    "growth_100": Case(100, 16, 20.0, events=(Event(12.0, "add"),)),
    "zipf_1000": Case(1000, 64, 8.0),
}
"""By name. Doors are about one for 10,000 tokens/s and more: what one core of a door hands on by
benchmarks/results/stack.json."""


def name_in(case: str, router: str, metric: str) -> str:
    """The record's name of one number."""
    return f"{case}_{router.replace('-', '_')}_{metric}"


def recorded(case: str, router: str, outcome: Outcome) -> dict[str, float]:
    """One router's numbers under their names in the record."""
    values = outcome.metrics()
    return {name_in(case, router, title): values[name] for name, title in SHOWN.items()}


def run_cases(names: list[str], data: Path) -> dict[str, float]:
    """Every router on every case that has its data."""
    metrics: dict[str, float] = {}
    for case in names:
        if CASES[case].trace != "poisson" and not data.is_dir():
            console.print(f"{case}: left out, there is no {data}")
            continue
        for router, outcome in CASES[case].comparison(data).outcomes(ROUTERS):
            metrics |= recorded(case, router, outcome)
            console.print(f"{case} {router}: {outcome.ttft_p99_s * 1e3:.0f} ms p99")
    return metrics


def cases_of(metrics: Mapping[str, float]) -> list[str]:
    """The cases that were run."""
    return [case for case in CASES if name_in(case, "flora", "ttft_p99_s") in metrics]


def show(metrics: Mapping[str, float]) -> None:
    """A row for each case and router."""
    table = Table("case", "router", "device", "reused", "imbalance", "TTFT p50", "p99 ms")
    table.add_column("tokens/s")
    table.add_column("moved")
    for case in cases_of(metrics):
        for router in ROUTERS:
            found = {title: metrics[name_in(case, router, title)] for title in SHOWN.values()}
            table.add_row(
                case,
                router,
                f"{found['device_hit_rate']:.3f}",
                f"{found['reuse_device_hit_rate']:.3f}",
                f"{found['imbalance_ratio']:.2f}",
                f"{found['ttft_p50_s'] * 1e3:.0f}",
                f"{found['ttft_p99_s'] * 1e3:.0f}",
                f"{found['tokens_per_s']:,.0f}",
                f"{found['moved_share']:.3f}",
            )
    Console(width=110).print(table)


def verdict(metrics: Mapping[str, float]) -> str:
    """Ours against the others at each size, and how far the engine model is off."""
    parts = []
    for case in (name for name in cases_of(metrics) if name.startswith("zipf")):
        found = [
            f"{router} {metrics[name_in(case, router, 'reuse_device_hit_rate')]:.2f}"
            f" / {metrics[name_in(case, router, 'ttft_p99_s')]:.2f} s"
            for router in ROUTERS
        ]
        parts.append(f"{CASES[case].num_replicas} replicas: {', '.join(found)}")
    return (
        "repeated requests that find their adapter on the device / p99 TTFT, of simulated"
        f" replicas: {'; '.join(parts)}; the engine model is within {worst_error(metrics):.0%} of"
        " measured engines"
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("simulator", __doc__, model=False)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--case", action="append", choices=list(CASES), help="these alone")
    return parser.parse_args()


def main() -> None:
    """Simulate, show, record."""
    args = parse()
    metrics = run_cases(args.case or list(CASES), args.data) | calibration_metrics()
    show(metrics)
    path = write_record(
        args.json,
        name="simulator",
        question="What does the choice of replicas decide, with a hundred and with a thousand?",
        config={"profile": H100.name, "num_adapters": NUM_ADAPTERS, "load": "0.6 of the most"},
        seed=SEED,
        warmup=0,
        repeats=1,
        metrics=metrics,
        ceiling="a greedy oracle with perfect knowledge: the oracle metrics",
        verdict=verdict(metrics),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
