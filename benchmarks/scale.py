"""Question: what do users notice of replicas that come and go?

`flora serve` scales by queued tokens from one replica to N and back, while streaming clients ask
over HTTP for Zipf(1.0) adapters. Many clients make it grow; once every replica is as warm as the
older ones, long streams begin on all of them, most clients leave, and what is left of the long
streams moves when its replica has had its time to drain. Counted: requests that fail, streams that
moved, adapter homes that moved when a replica came (of many made-up adapters, among the real
replicas), and the time until a new replica finds adapters in its slots as often as older ones do.
Replicas share this machine: times say little of machines that have one each.
Ceiling: no failed request; of n replicas, the next one takes a share of 1 / (n + 1) of the homes;
the server's own delays (`--upscale-delay-s`, `--downscale-delay-s`, `--drain-s`).
"""

import argparse
import asyncio
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.arrivals import zipf_adapters
from benchmarks.command import fast_folder, make_parser, prepare_engines
from benchmarks.record import summarise, write_record
from benchmarks.scale_watch import Watch, moved_share
from benchmarks.served import served
from benchmarks.soak import layout_of
from benchmarks.streaming_client import Ask, StreamingClient, request_bytes
from benchmarks.uploads import publish, write_uploads

SEED = 0
PROMPT, ANSWER, LONG_ANSWER = 32, 128, 900
MAX_NUM_SEQS = 16
CLIENTS_A_REPLICA = 12
TARGET_TOKENS = 600
NUM_HOMES = 20_000
COMES_S, WARM_S, GOES_S = 240.0, 60.0, 120.0

Samples = dict[str, list[float]]
console = Console(stderr=True)


class Clients:
    """Streaming clients, each with one request after the other, in a number that changes."""

    def __init__(self, url: str, models: Sequence[str]) -> None:
        self._address = urlsplit(url)
        self._models = models
        self._rng = np.random.default_rng(SEED)
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.failures: list[str] = []
        self.num_answers = 0

    def resize(self, number: int) -> None:
        """So many clients; those that are too many leave after their answer."""
        for place in range(self._number, number):
            self._spawn(place)
        self._number = number

    async def ask(self, num_tokens: int) -> None:
        """One request over a connection of its own."""
        adapter = int(zipf_adapters(1, len(self._models), self._rng)[0])
        prompt = tuple(self._rng.integers(1000, 40_000, PROMPT).tolist())
        host, port = self._address.hostname or "", self._address.port or 80
        ask = Ask(self._models[adapter], prompt, num_tokens)
        client = None
        try:
            loop = asyncio.get_running_loop()
            _, client = await loop.create_connection(StreamingClient, host, port)
            answer = await client.ask(request_bytes(self._address.netloc, ask))
            if answer.num_tokens != num_tokens:
                self.failures.append(f"{answer.num_tokens} tokens in place of {num_tokens}")
        except (RuntimeError, OSError) as error:
            self.failures.append(f"{error!r}"[:500])
        finally:
            self.num_answers += 1
            if client is not None:
                client.close()

    async def leave(self) -> None:
        """All of them, after their answers."""
        self._number = 0
        await asyncio.gather(*self._tasks)

    def _spawn(self, place: int) -> None:
        task = asyncio.ensure_future(self._run(place))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, place: int) -> None:
        while place < self._number:
            await self.ask(ANSWER)


class Cycle:
    """Once out and in again."""

    def __init__(self, watch: Watch, clients: Clients, num_replicas: int, samples: Samples) -> None:
        self._watch = watch
        self._clients = clients
        self._num_replicas = num_replicas
        self._samples = samples

    async def run(self) -> None:
        """Raises TimeoutError where replicas do not come, get warm or go."""
        watch, clients, most = self._watch, self._clients, self._num_replicas
        old = list((await watch.poll()).slots)
        num_lost, num_failed = watch.last.num_lost, len(clients.failures)
        clients.resize(CLIENTS_A_REPLICA * most)
        self._note("scale_out_s", await watch.until(lambda: self._count() >= most, COMES_S))
        new = [name for name in watch.last.slots if name not in old]
        await watch.until(lambda: None not in map(watch.history.caught_up_s, new), WARM_S)
        for name in new:
            self._note("ready_to_full_hit_rate_s", watch.history.caught_up_s(name) or 0.0)
        self._note_homes(old, sorted(new, key=watch.history.ready_at_s.__getitem__))
        long = [asyncio.ensure_future(clients.ask(LONG_ANSWER)) for _ in range(4 * most)]
        clients.resize(1)
        self._note("scale_in_s", await watch.until(lambda: self._count() <= 1, GOES_S))
        await asyncio.gather(*long)
        self._note("moved_streams", (await watch.poll()).num_lost - num_lost)
        self._note("failed_requests", len(clients.failures) - num_failed)

    def _count(self) -> int:
        return len(self._watch.last.slots)

    def _note_homes(self, old: list[str], new: list[str]) -> None:
        adapters = np.random.default_rng(SEED).integers(1 << 62, size=NUM_HOMES).tolist()
        sets = [(*old, *new[:number]) for number in range(len(new) + 1)]
        for before, after in pairwise(sets):
            name = f"moved_share_{len(before)}_to_{len(after)}"
            self._note(name, moved_share(adapters, before, after))

    def _note(self, name: str, value: float) -> None:
        self._samples[name].append(value)
        console.print(f"{name}: {value:.3f}")


async def measure(args: argparse.Namespace, url: str, names: Sequence[str]) -> Samples:
    """One cycle after the other over a server that has its adapters."""
    samples: Samples = defaultdict(list)
    base = args.model.name.lower()
    watch, clients = Watch(url), Clients(url, [f"{base}:{name}" for name in names])
    try:
        clients.resize(1)
        for _ in range(args.rounds):
            await Cycle(watch, clients, args.replicas, samples).run()
        await clients.leave()
    finally:
        await watch.close()
    console.print(f"{clients.num_answers} answers; failures: {clients.failures[:5]}", markup=False)
    return samples


def options(args: argparse.Namespace) -> list[str]:
    """Of `flora serve`."""
    settings = {
        "replica.engine": args.engine,
        "replica.echo_step_s": 0.02,
        "replica.max_num_seqs": MAX_NUM_SEQS,
        "replica.num_threads": 1,
        "replica.num_cpus": 0.1,
        "replica.kv_cache_bytes": 256 << 20,
        "replica.max_model_len_tokens": 1024,
        "replica.scaling.max_replicas": args.replicas,
        "replica.scaling.target_load_tokens": TARGET_TOKENS,
        "replica.scaling.upscale_delay_s": args.upscale_delay_s,
        "replica.scaling.downscale_delay_s": args.downscale_delay_s,
        "replica.scaling.drain_s": args.drain_s,
    }
    return [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]


def verdict(metrics: dict[str, float]) -> str:
    """What failed, what moved, and how long it took."""
    shares = ", ".join(
        f"{value:.3f} (fair: {1 / int(name.rpartition('_')[2]):.3f})"
        for name, value in metrics.items()
        if name.startswith("moved_share_")
    )
    return (
        f"{metrics['failed_requests']:.0f} requests failed, {metrics['moved_streams']:.0f} streams"
        f" moved; homes moved as replicas came: {shares};"
        f" {metrics['ready_to_full_hit_rate_s']:.1f} s from ready to the others' hit rate"
    )


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("scale", __doc__)
    parser.add_argument("--engine", choices=("echo", "vllm"), default="echo")
    parser.add_argument("--replicas", type=int, default=0, help="at most (echo: 4, vllm: 2)")
    parser.add_argument("--adapters", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--upscale-delay-s", type=float, default=2.0)
    parser.add_argument("--downscale-delay-s", type=float, default=3.0)
    parser.add_argument("--drain-s", type=float, default=3.0)
    args = parser.parse_args()
    args.rounds = 1 if args.quick else args.rounds
    args.replicas = args.replicas or (4 if args.engine == "echo" else 2)
    return args


def main() -> None:
    """Measure, show, record."""
    prepare_engines()
    args = parse()
    uploads = write_uploads(asyncio.run(layout_of(args)), args.adapters)
    with fast_folder() as folder, served(args.model, folder, console, *options(args)) as url:
        names = publish(url, uploads)
        metrics, spread = summarise(asyncio.run(measure(args, url, names)))
    table = Table("metric", "median")
    for name, value in metrics.items():
        table.add_row(name, f"{value:.3f}")
    Console().print(table)
    path = write_record(
        args.json,
        name="scale" if args.engine == "vllm" else "scale-echo",
        question="What do users notice of replicas that come and go?",
        config={
            "engine": args.engine,
            "replicas": args.replicas,
            "adapters": args.adapters,
            "upscale_delay_s": args.upscale_delay_s,
            "downscale_delay_s": args.downscale_delay_s,
            "drain_s": args.drain_s,
        },
        seed=SEED,
        warmup=0,
        repeats=args.rounds,
        metrics=metrics,
        spread=spread,
        ceiling="no failed request; homes move by 1 / (n + 1); the delays that are set",
        verdict=verdict(metrics),
    )
    console.print(verdict(metrics))
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
