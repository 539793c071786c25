"""Question: how many requests find their adapter on the node, and how many could?

Requests for 10^5 adapters of one size are replayed against caches of 1, 5 and 20 % of them: the
node cache's own decisions (adapter_cache/eviction.py and frequency.py, without the files), the
policies of the literature, and the optimum, which knows the future. Traces: Zipf(1.0); the same
while popularity moves; the same between scans; and a day of Azure Functions, whose files
`--data` names (CC BY 4.0, https://github.com/Azure/AzurePublicDataset). Without them the first
three run alone. The first quarter of each trace warms the caches and is not counted.
Ceiling: Belady's optimum on the same trace.
"""

import argparse
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from adapter_cache.eviction import Resident, bytes_to_free, eviction_order
from adapter_cache.frequency import EMPTY_SKETCH, FrequencySketch
from benchmarks.command import make_parser
from benchmarks.policies import Belady, Fifo, Lfu, Lru, Policy, Sieve
from benchmarks.record import write_record
from benchmarks.request_traces import NUM_ADAPTERS, traces
from benchmarks.resistant_policies import Arc, S3Fifo, TinyLfu
from contracts.adapters import Digest

SEED = 0
SIZES_PERCENT = (1, 5, 20)
BLOB_BYTES = 4096
console = Console(stderr=True)


class NodePolicy:
    """What a NodeCache of `capacity` blobs would keep, decided by its own parts, without files."""

    def __init__(self, capacity: int) -> None:
        self._budget_bytes = capacity * BLOB_BYTES
        self._keys: OrderedDict[int, Digest] = OrderedDict()  # in order of use
        self._digests: dict[int, Digest] = {}
        self._sketch = FrequencySketch(memoryview(bytearray(EMPTY_SKETCH)))

    @property
    def keys(self) -> list[int]:
        """What is here, least recently used first."""
        return list(self._keys)

    def use(self, key: int) -> bool:
        is_hit = key in self._keys
        if not is_hit:
            self._make_room()
            self._keys[key] = self._digests.setdefault(key, digest_of(key))
        self._keys.move_to_end(key)
        self._sketch.add(self._keys[key])
        return is_hit

    def _make_room(self) -> None:
        excess = bytes_to_free(len(self._keys) * BLOB_BYTES, BLOB_BYTES, self._budget_bytes)
        if not excess:
            return
        self._sketch.age(len(self._keys))
        keys = {digest: key for key, digest in self._keys.items()}
        residents = [Resident(0, digest, BLOB_BYTES) for digest in keys]
        leaving = eviction_order(residents, self._sketch.estimate)
        for victim in leaving[: -(-excess // BLOB_BYTES)]:
            del self._keys[keys[victim.digest]]


POLICIES: dict[str, Callable[[int], Policy]] = {
    "node": NodePolicy,
    "lru": Lru,
    "fifo": Fifo,
    "lfu": Lfu,
    "s3fifo": S3Fifo,
    "sieve": Sieve,
    "wtinylfu": TinyLfu,
    "arc": Arc,
}


def digest_of(key: int) -> Digest:
    """A digest for an adapter that has no bytes."""
    return Digest(sha256(str(key).encode()).hexdigest())


def hit_rate(policy: Policy, trace: Sequence[int]) -> float:
    """The share of hits after the first quarter."""
    warm = len(trace) // 4
    for key in trace[:warm]:
        policy.use(key)
    return sum(policy.use(key) for key in trace[warm:]) / (len(trace) - warm)


def replay(num_requests: int, data: Path | None) -> dict[str, float]:
    """Hit rates by metric name, of every trace, size and policy."""
    metrics = {}
    for name, make in traces(data).items():
        trace = make(num_requests, np.random.default_rng(SEED)).tolist()
        for percent in SIZES_PERCENT:
            capacity = NUM_ADAPTERS * percent // 100
            made = {title: policy(capacity) for title, policy in POLICIES.items()}
            for title, policy in {**made, "belady": Belady(capacity, trace)}.items():
                with console.status(f"{name}, {percent} %: {title}"):
                    metrics[f"{name}_{percent}pct_{title}_hit_rate"] = hit_rate(policy, trace)
    return metrics


def settings_of(metrics: dict[str, float]) -> list[str]:
    """The replayed pairs of trace and size, such as "zipf_1pct"."""
    return [name.removesuffix("_node_hit_rate") for name in metrics if "_node_" in name]


def verdict(metrics: dict[str, float]) -> str:
    """Mean hit rates over all traces and sizes, and where the node's policy is below LRU."""
    settings = settings_of(metrics)
    means = {
        title: sum(metrics[f"{setting}_{title}_hit_rate"] for setting in settings) / len(settings)
        for title in (*POLICIES, "belady")
    }
    order = sorted(means, key=lambda title: -means[title])
    below = [
        setting
        for setting in settings
        if metrics[f"{setting}_node_hit_rate"] < metrics[f"{setting}_lru_hit_rate"]
    ]
    ranked = ", ".join(f"{title} {means[title]:.3f}" for title in order)
    return f"mean hit rate: {ranked}; below LRU in {', '.join(below) or 'none'}"


def show(metrics: dict[str, float]) -> None:
    """Hit rates as a table for people: a row for each trace and size, a column for each policy."""
    titles = (*POLICIES, "belady")
    table = Table("trace, size", *titles)
    for setting in settings_of(metrics):
        cells = (f"{metrics[f'{setting}_{title}_hit_rate']:.4f}" for title in titles)
        table.add_row(setting, *cells)
    Console(width=110).print(table)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("popularity", __doc__, model=False)
    parser.add_argument("--data", type=Path, default=Path("data/adapter_popularity"))
    parser.add_argument("--requests", type=int, default=500_000, help="requests a trace")
    return parser.parse_args()


def main() -> None:
    """Replay, show, record."""
    args = parse()
    metrics = replay(args.requests, args.data)
    show(metrics)
    path = write_record(
        args.json,
        name="popularity",
        question="How many requests find their adapter on the node, and how many could?",
        config={"num_adapters": NUM_ADAPTERS, "num_requests": args.requests},
        seed=SEED,
        warmup=args.requests // 4,
        repeats=1,
        metrics=metrics,
        ceiling="Belady's optimum, which knows the trace's future: the belady metrics",
        verdict=verdict(metrics),
    )
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
