"""The ingress in a real Ray Serve, over a replica that counts."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
from ray import cloudpickle, serve

from app.config import Settings, load_settings
from app.ray_cluster import start_cluster, stop_cluster, stop_serve
from app.ray_door import door_app
from app.ray_tuning import tune_windows
from tests.app import parts
from tests.app.parts import CountingReplica, make_tokenizer

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.filterwarnings("default")]


class Observed(CountingReplica):
    """Says what it has seen."""

    async def seen(self) -> tuple[list[int], set[str]]:
        return [len(group) for group in self.groups], self.cancelled


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder: Path = tmp_path_factory.mktemp("model") / parts.BASE
    make_tokenizer().save_pretrained(folder)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    return load_settings(
        overrides={
            "server": {"port": port},
            "window": {"wait_s": 0.05},
            "replica": {"engine": "echo", "model": str(folder)},
            # Nobody listens there: only adapters need the store.
            "cache": {"redis_url": "redis://127.0.0.1:1/0"},
        }
    )


@pytest.fixture(scope="module")
def url(settings: Settings) -> Iterator[str]:
    cloudpickle.register_pickle_by_value(parts)
    start_cluster(settings, num_cpus=2, object_store_bytes=100 * 1024**2)
    try:
        replica = serve.deployment(Observed, name="replica", max_ongoing_requests=100)
        serve.run(door_app(settings, replica.bind(0.02)), name="flora", route_prefix="/")
        yield f"http://127.0.0.1:{settings.server.port}"
    finally:
        stop_serve()
        stop_cluster()
        cloudpickle.unregister_pickle_by_value(parts)


def seen() -> tuple[list[int], set[str]]:
    handle = serve.get_deployment_handle("replica", "flora")
    result: tuple[list[int], set[str]] = handle.seen.remote().result(timeout_s=10)
    return result


def body(**changes: Any) -> dict[str, Any]:
    return {"model": parts.BASE, "prompt": "hi", "max_tokens": 3, **changes}


async def post_many(url: str) -> list[httpx.Response]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        posts = [client.post("/v1/completions", json=body(n=1 + i % 2)) for i in range(8)]
        return list(await asyncio.gather(*posts))


def test_requests_that_come_together_share_a_group(url: str) -> None:
    answers = asyncio.run(post_many(url))
    assert {a.status_code for a in answers} == {200}
    assert {c["text"] for a in answers for c in a.json()["choices"]} == {"base0 base1 base2 "}
    assert max(seen()[0]) > 1


def test_the_window_is_tuned_while_requests_run_and_drops_none(url: str) -> None:
    async def post_and_tune() -> list[httpx.Response]:
        posting = [asyncio.create_task(post_many(url))]
        for size, wait_s in ((1, 0.0), (3, 0.01), (64, 0.05)):
            await asyncio.sleep(0.05)
            changes = {"max_batch_size": size, "wait_s": wait_s, "adaptive": False}
            assert await asyncio.to_thread(tune_windows, changes) == 1
            posting.append(asyncio.create_task(post_many(url)))
        return [answer for answers in await asyncio.gather(*posting) for answer in answers]

    answers = asyncio.run(post_and_tune())
    assert [a.status_code for a in answers] == [200] * 32
    with pytest.raises(ValueError, match="max_batch_size"):
        tune_windows({"max_batch_size": 0})
    tune_windows({"max_batch_size": 1})
    before = len(seen()[0])
    asyncio.run(post_many(url))
    assert seen()[0][before:] == [1] * 8
    tune_windows({"max_batch_size": 64})


def test_a_stream_comes_step_by_step(url: str) -> None:
    with httpx.stream(
        "POST", f"{url}/v1/completions", json=body(stream=True), timeout=30
    ) as answer:
        arrivals = [(time.monotonic(), line) for line in answer.iter_lines() if line]
    assert len(arrivals) == 4
    assert arrivals[2][0] - arrivals[0][0] > 0.02
    assert arrivals[-1][1] == "data: [DONE]"


def test_a_client_that_leaves_is_cancelled_on_the_replica(url: str) -> None:
    long = body(stream=True, max_tokens=400)
    with httpx.stream("POST", f"{url}/v1/completions", json=long, timeout=30) as answer:
        first = next(answer.iter_lines())
    request_id = first.split('"id":"')[1].split('"')[0] + "-0"
    deadline_s = time.monotonic() + 4
    while request_id not in seen()[1] and time.monotonic() < deadline_s:
        time.sleep(0.05)
    assert request_id in seen()[1]


def test_trouble_has_its_status(url: str) -> None:
    with httpx.Client(base_url=url, timeout=30) as client:
        assert client.post("/v1/completions", json=body(model="other")).status_code == 404
        down = client.post("/v1/completions", json=body(model=f"{parts.BASE}:a"))
        assert (down.status_code, down.json()["error"]["code"]) == (503, "store_unavailable")
        assert client.get("/healthz").status_code == 200
        assert client.get("/readyz").status_code == 503


def test_the_stream_of_a_lost_replica_goes_on(url: str) -> None:
    long = body(stream=True, max_tokens=400)
    with httpx.stream("POST", f"{url}/v1/completions", json=long, timeout=60) as answer:
        lines = answer.iter_lines()
        next(lines)
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if "replica#" in actor["name"]:
                ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))
        rest = [line for line in lines if line]
    assert '"finish_reason":"length"' in rest[-2]
    assert not any("error" in line for line in rest)
