"""Versions of an adapter through a whole server with an engine that needs no model, and a lost
Redis. What the engine says names the digest it was given.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from adapter_cache.config import CacheConfig
from adapter_cache.redis_connect import RedisClients
from adapter_cache.valkey_server import ValkeyServer
from app.maintenance import collect_garbage, rebuild_registry
from benchmarks.served import served
from flora.adapter_files import write_adapter
from flora.layout import AdapterLayout
from replicas.echo_engine import EchoEngine
from tests.app.parts import make_tokenizer
from tests.flora.adapters import make_adapter

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

BASE = "tiny"
_NAMES = (f"adapter-{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheConfig]:
    """A server's stores: a Valkey of the test's own, so that it can be emptied."""
    folder = tmp_path_factory.mktemp("stores")
    with ValkeyServer.start(folder / "valkey") as valkey:
        yield CacheConfig(
            redis_url=valkey.url,
            object_store_url=f"file://{folder}/objects",
            node_cache_dir=folder / "node",
        )


@pytest.fixture(scope="module")
def http(cache: CacheConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("serve")
    make_tokenizer().save_pretrained(folder / BASE)
    options = ["--engine", "echo", "--set", "replica.num_replicas=2"]
    for name in ("redis_url", "object_store_url", "node_cache_dir"):
        options += ["--set", f"cache.{name}={getattr(cache, name)}"]
    with (
        served(folder / BASE, folder, Console(file=sys.stderr), *options) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def layout() -> AdapterLayout:
    return AdapterLayout.from_json(asyncio.run(EchoEngine().start()).layout_json)


def put(http: httpx.Client, layout: AdapterLayout, name: str, seed: int) -> dict[str, Any]:
    weights, config = write_adapter(make_adapter(layout, seed=seed), "float32")
    files = {"c": ("adapter_config.json", config), "w": ("a.safetensors", weights)}
    answer = http.put(f"/v1/adapters/{name}", files=files)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


def complete(http: httpx.Client, name: str) -> httpx.Response:
    body = {"model": f"{BASE}:{name}", "prompt": [7], "max_tokens": 1}
    return http.post("/v1/completions", json=body)


def settled(http: httpx.Client, name: str) -> httpx.Response:
    """The answer once the door trusts the registry again, which it tries twice a second."""
    deadline_s = time.monotonic() + 5
    while (answer := complete(http, name)).status_code == 503 and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return answer


def said(answer: httpx.Response) -> str:
    """The digest's beginning that the engine was given."""
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["text"]
    return text.split(":")[1].strip()


def test_each_request_sees_the_version_that_is_current_when_it_comes(
    http: httpx.Client, layout: AdapterLayout
) -> None:
    name = next(_NAMES)
    path = f"/v1/adapters/{name}"
    first, second = (put(http, layout, name, seed) for seed in (1, 2))
    assert said(complete(http, name)) == second["digest"][:8]
    back = http.post(f"{path}/rollback").json()
    assert (back["version"], back["digest"]) == (3, first["digest"])
    assert said(complete(http, name)) == first["digest"][:8]
    assert said(complete(http, f"{name}@2")) == second["digest"][:8]
    assert http.put(f"{path}/pin", params={"version": 1}).json()["pinned"]
    shown = [(v["version"], v["current"], v["pinned"]) for v in http.get(path).json()["versions"]]
    assert shown == [(1, False, True), (2, False, False), (3, True, False)]
    assert http.delete(path).status_code == 200
    assert complete(http, name).status_code == 404
    assert put(http, layout, name, 1)["version"] > 3


def test_a_prefetch_reaches_the_nodes_before_any_request(
    http: httpx.Client, layout: AdapterLayout, cache: CacheConfig
) -> None:
    made = put(http, layout, next(_NAMES), seed=3)
    assert not on_the_node(cache, made["digest"])
    answer = http.post(f"/v1/adapters/{made['name']}/prefetch")
    assert (answer.status_code, answer.json()["digest"]) == (202, made["digest"])
    deadline_s = time.monotonic() + 10
    while not on_the_node(cache, made["digest"]) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert on_the_node(cache, made["digest"])


def on_the_node(cache: CacheConfig, digest: str) -> bool:
    return any(digest in path.name for path in cache.node_cache_dir.rglob("*"))


def test_the_metrics_page_shows_both_replicas(http: httpx.Client, layout: AdapterLayout) -> None:
    assert complete(http, put(http, layout, next(_NAMES), seed=4)["name"]).status_code == 200
    families = read_metrics(http)
    slots = families["flora_slots"].samples
    assert len({sample.labels["replica"] for sample in slots}) == len(slots) == 2
    resolves = families["flora_registry_resolve_seconds"].samples
    assert next(s.value for s in resolves if s.name.endswith("_count")) > 0


def read_metrics(http: httpx.Client) -> dict[str, Any]:
    text = http.get("/metrics").text
    types = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(types) == len(set(types))
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_an_emptied_redis_heals_and_no_name_is_called_unknown_meanwhile(
    http: httpx.Client, layout: AdapterLayout, cache: CacheConfig
) -> None:
    name, quiet = next(_NAMES), next(_NAMES)
    for seed in (5, 6):
        put(http, layout, name, seed)
        put(http, layout, quiet, seed)
    http.put(f"/v1/adapters/{quiet}/pin", params={"version": 1})
    back = http.post(f"/v1/adapters/{name}/rollback").json()
    assert said(complete(http, name)) == back["digest"][:8]
    before = [http.get(f"/v1/adapters/{each}").json() for each in (name, quiet)]
    rebuilds = count_rebuilds(http)
    asyncio.run(flush(cache))
    statuses, digests = set(), set()
    deadline_s = time.monotonic() + 20
    while count_rebuilds(http) == rebuilds and time.monotonic() < deadline_s:
        for each in (name, quiet):
            answer = complete(http, each)
            statuses.add(answer.status_code)
            if each == name and answer.status_code == 200:
                digests.add(said(answer))
    # Counted just before the registry is called complete.
    while http.get("/readyz").status_code != 200 and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert statuses <= {200, 503}
    assert digests <= {back["digest"][:8]}
    assert http.get("/readyz").status_code == 200
    assert [http.get(f"/v1/adapters/{each}").json() for each in (name, quiet)] == before
    assert said(settled(http, name)) == back["digest"][:8]
    assert settled(http, "nobody").status_code == 404


def count_rebuilds(http: httpx.Client) -> float:
    samples = read_metrics(http)["flora_registry_rebuilds"].samples
    return float(next(s.value for s in samples if s.name.endswith("_total")))


async def flush(cache: CacheConfig) -> None:
    clients = RedisClients.connect(cache.redis_url)
    async with clients.writing() as redis:
        await redis.flushall()
    await clients.close()


def test_rebuild_and_collection_leave_a_running_server_alone(
    http: httpx.Client, layout: AdapterLayout, cache: CacheConfig
) -> None:
    name = next(_NAMES)
    made = put(http, layout, name, seed=7)
    console = Console(file=sys.stderr)
    rebuild_registry(cache, console)
    collect_garbage(cache, console, dry_run=False)
    assert said(complete(http, name)) == made["digest"][:8]
    assert http.get(f"/v1/adapters/{name}").json()["version"] == 1
