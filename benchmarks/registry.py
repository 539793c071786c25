"""Question: what do a million registered adapters cost, and does anybody notice them?

A Valkey server holds the registry alone. Adapters are registered in two shapes: all of one tenant,
and one a tenant. Then windows of 64 random names are resolved, and a real server (`flora serve`,
echo engine) pages /v1/models through all of them while another client keeps asking it for answers.
Ceiling: a record is about 130 bytes of text and a name 12, so about 150 bytes without any index.
"""

import argparse
import asyncio
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from time import perf_counter

import httpx
import numpy as np
from rich.console import Console
from rich.progress import Progress

from adapter_cache.config import RedisLimits
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.valkey_server import ValkeyServer
from benchmarks.command import make_parser
from benchmarks.record import summarise, write_record
from benchmarks.served import served
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterManifest, AdapterRef, TenantId
from contracts.adapters import Digest as DigestName

SEED = 0
WINDOW = 64
NUM_WINDOWS = 3000
CHUNK = 512
PAGE = 1000
_ALONE_S = 20.0

Samples = dict[str, list[float]]
console = Console(stderr=True)


def manifest(tenant: TenantId, number: int) -> AdapterManifest:
    """The first version of adapter `number`; a thousand of them share bytes."""
    digest = DigestName(sha256(str(number % 1000).encode()).hexdigest())
    key = AdapterKey(tenant, f"user-{number:07d}", 1, digest, 507_200)
    return AdapterManifest(key, "0123456789ab-0123456789ab", 1, 210, 1_790_000_000.5 + number)


async def register(registry: RedisRegistry, count: int, is_one_a_tenant: bool) -> None:
    """Advance `count` names, many at a time."""
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("registering", total=count)
        for begin in range(0, count, CHUNK):
            numbers = range(begin, min(begin + CHUNK, count))
            made = (
                manifest(TenantId(f"t{n:07d}") if is_one_a_tenant else DEFAULT_TENANT, n)
                for n in numbers
            )
            await asyncio.gather(*map(registry.advance, made))
            progress.advance(task, len(numbers))


@asynccontextmanager
async def registered(folder: Path, count: int, shape: str, samples: Samples) -> AsyncIterator[str]:
    """The URL of a new server with `count` adapters; samples the memory that they take."""
    with ValkeyServer.start(folder / f"valkey{shape}") as valkey:
        clients = RedisClients.connect(valkey.url, RedisLimits(max_connections=32))
        try:
            before = (await clients.reads.info("memory"))["used_memory"]
            await register(RedisRegistry(clients, "flora"), count, bool(shape))
            spent = (await clients.reads.info("memory"))["used_memory"] - before
        finally:
            await clients.close()
        samples[f"redis_bytes_per_adapter{shape}"].append(spent / count)
        console.print(f"{count} adapters{shape}: {spent / count:.0f} bytes each")
        yield valkey.url


async def measure_windows(url: str, count: int, samples: Samples) -> None:
    """Windows of random names, one after the other."""
    rng = np.random.default_rng(SEED)
    clients = RedisClients.connect(url, RedisLimits())
    registry = RedisRegistry(clients, "flora")
    times = [await window_ms(registry, rng, count) for _ in range(NUM_WINDOWS)]
    await clients.close()
    for percentile in (50, 99):
        name = f"resolve_window64_ms_p{percentile}"
        samples[name] = [float(np.percentile(times, percentile))]


async def window_ms(registry: RedisRegistry, rng: np.random.Generator, count: int) -> float:
    """One resolve of 64 names, in milliseconds."""
    refs = [AdapterRef(DEFAULT_TENANT, f"user-{n:07d}") for n in rng.integers(0, count, WINDOW)]
    started_s = perf_counter()
    keys = await registry.resolve(refs)
    elapsed_ms = (perf_counter() - started_s) * 1e3
    assert all(key is not None for key in keys)
    return elapsed_ms


async def page_all(client: httpx.AsyncClient) -> tuple[int, float]:
    """Names seen on /v1/models, walked to the end, and the slowest page in milliseconds."""
    seen, after, slowest_ms = 0, "", 0.0
    while True:
        started_s = perf_counter()
        answer = await client.get("/v1/models", params={"limit": PAGE, "after": after})
        slowest_ms = max(slowest_ms, (perf_counter() - started_s) * 1e3)
        page = answer.raise_for_status().json()
        seen += len(page["data"])
        if not page["has_more"]:
            return seen, slowest_ms
        after = page["last_id"]


async def answer_ms(client: httpx.AsyncClient, base: str) -> float:
    """One short answer of the base model."""
    body = {"model": base, "prompt": [1, 2, 3], "max_tokens": 2}
    started_s = perf_counter()
    (await client.post("/v1/completions", json=body)).raise_for_status()
    return (perf_counter() - started_s) * 1e3


async def answers_ms(client: httpx.AsyncClient, base: str, busy: Callable[[], bool]) -> Samples:
    """Percentile and maximum of answers, one after the other while something is `busy`."""
    found: list[float] = []
    while busy():
        found.append(await answer_ms(client, base))
    return {"p99": [float(np.percentile(found, 99))], "max": [max(found)]}


async def measure_paging(url: str, base: str, count: int, samples: Samples) -> None:
    """The walk through all names, and answers for others with and without it."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        for _ in range(50):
            await answer_ms(client, base)
        quiet = asyncio.create_task(asyncio.sleep(_ALONE_S))
        alone = await answers_ms(client, base, lambda: not quiet.done())
        started_s = perf_counter()
        walk = asyncio.create_task(page_all(client))
        beside = await answers_ms(client, base, lambda: not walk.done())
        seen, slowest_ms = await walk
        samples["paging_s"].append(perf_counter() - started_s)
    assert seen == count + 1, f"{seen} names were listed"
    samples["paging_slowest_page_ms"].append(slowest_ms)
    samples["answer_alone_ms_p99"] = alone["p99"]
    samples["answer_while_paging_ms_p99"] = beside["p99"]
    samples["answer_while_paging_ms_max"] = beside["max"]


async def measure(args: argparse.Namespace, folder: Path) -> Samples:
    """Both shapes; windows and pages on the second."""
    samples: Samples = defaultdict(list)
    async with registered(folder, args.count // 5, "_one_a_tenant", samples):
        pass
    async with registered(folder, args.count, "", samples) as redis_url:
        await measure_windows(redis_url, args.count, samples)
        options = ("--engine", "echo", "--set", f"cache.redis_url={redis_url}")
        with served(args.model, folder, console, *options) as url:
            await measure_paging(url, args.model.name.lower(), args.count, samples)
    return samples


def parse() -> argparse.Namespace:
    """The command line."""
    parser = make_parser("registry", __doc__)
    parser.add_argument("--count", type=int, default=1_000_000)
    return parser.parse_args()


def main() -> None:
    """Measure and record."""
    args = parse()
    with tempfile.TemporaryDirectory() as folder:
        metrics, spread = summarise(asyncio.run(measure(args, Path(folder))))
    path = write_record(
        args.json,
        name="registry",
        question="What do a million registered adapters cost, and does anybody notice them?",
        config={"count": args.count, "window": WINDOW, "page": PAGE},
        seed=SEED,
        warmup=0,
        repeats=1,
        metrics=metrics,
        spread=spread,
        ceiling="about 150 bytes: name and record as text without any index",
        verdict=f"{metrics['redis_bytes_per_adapter']:.0f} bytes an adapter (target 400), a window"
        f" resolves in {metrics['resolve_window64_ms_p50']:.2f} ms at the median",
    )
    console.print(metrics)
    console.print(f"record: {path}")


if __name__ == "__main__":
    main()
