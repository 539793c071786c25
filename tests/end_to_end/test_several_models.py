"""A whole server with two base models: each has its own engines, and only those."""

import asyncio
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.app.parts import make_tokenizer
from tests.end_to_end.echo_server import (
    BASE,
    PROMPT,
    EchoServer,
    Stream,
    body_of,
    echo_server,
    processes_of,
    reading,
)

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

OTHER = "team/other"
NUM_TOKENS = 100
CONFIG = """
[replica]
num_cpus = 0.1

[failover]
hang_after_s = 4

[[models]]
name = "{base}"

[[models]]
name = "{other}"
model = "{folder}"
num_replicas = 2
echo_step_s = 0.01
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoServer]:
    folder = tmp_path_factory.mktemp("serve")
    make_tokenizer().save_pretrained(folder / "other")
    config = folder / "flora.toml"
    config.write_text(CONFIG.format(base=BASE, other=OTHER, folder=folder / "other"))
    with echo_server(folder, 0.02, "--config", str(config)) as server:
        for name, seed, model in (("ada", 1, BASE), ("bob", 2, OTHER)):
            answer = server.publish(name, seed, model)
            assert answer.status_code == 200, answer.text
            assert answer.json()["id"] == f"{model}:{name}"
        yield server


def body(model: str, max_tokens: int = 3, *, stream: bool = False) -> dict[str, Any]:
    return {**body_of("", max_tokens, stream=stream), "model": model}


def ask(server: EchoServer, model: str) -> httpx.Response:
    return server.http.post("/v1/completions", json=body(model))


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def engines(server: EchoServer) -> dict[str, list[psutil.Process]]:
    names = {BASE: "replica-tiny", OTHER: "replica-team-other"}
    return {model: processes_of(server.url, name) for model, name in names.items()}


def test_each_model_has_its_replicas_and_answers(server: EchoServer) -> None:
    assert {model: len(found) for model, found in engines(server).items()} == {BASE: 1, OTHER: 2}
    for model in (BASE, OTHER):
        assert ask(server, model).json()["choices"][0]["text"] == "7 8 9 "
    for model in (f"{BASE}:ada", f"{OTHER}:bob"):
        words = ask(server, model).json()["choices"][0]["text"].split()
        assert [word.partition(":")[0] for word in words] == ["7", "8", "9"]
        assert all(word.partition(":")[2] for word in words)
    assert server.http.get("/readyz").status_code == 200


def test_an_adapter_is_for_its_own_model_alone(server: EchoServer) -> None:
    status, code, message = error_of(ask(server, f"{OTHER}:ada"))
    assert (status, code) == (400, "wrong_base_model")
    assert f"'{BASE}:ada'" in message
    assert error_of(ask(server, f"{BASE}:bob"))[1] == "wrong_base_model"
    assert error_of(ask(server, f"{BASE}:eve"))[:2] == (404, "model_not_found")
    status, code, message = error_of(server.publish("eve", 3))
    assert (status, code) == (400, "invalid_request")
    assert f"{BASE}, {OTHER}" in message
    assert error_of(server.publish("ada", 3, OTHER))[:2] == (400, "wrong_base_model")


def test_models_and_adapters_are_listed_by_their_bases(server: EchoServer) -> None:
    models = server.http.get("/v1/models").json()["data"]
    assert [model["id"] for model in models] == [BASE, OTHER, f"{BASE}:ada", f"{OTHER}:bob"]
    adapters = server.http.get("/v1/adapters").json()["data"]
    assert [adapter["base_fingerprint"] for adapter in adapters] == ["echo-tiny", "echo-other"]


def test_one_page_counts_all_models(server: EchoServer) -> None:
    page = server.http.get("/metrics").text
    lines = [line for line in page.splitlines() if line.startswith("flora_slots{")]
    assert sum(f'model="{BASE}"' in line for line in lines) == 1
    assert sum(f'model="{OTHER}"' in line for line in lines) == 2
    before = server.gauge("flora_requests_total")
    for model in (BASE, OTHER, f"{OTHER}:bob"):
        assert ask(server, model).status_code == 200
    assert server.gauge("flora_requests_total") == before + 3
    assert server.gauge("flora_running_requests") == 0


def test_the_loss_of_one_models_engine_is_nothing_to_the_other(server: EchoServer) -> None:
    """The other model answers all the while; streams of the first go on once it is back."""

    async def lose_base() -> tuple[list[Stream], list[Stream], list[int]]:
        lost = [Stream(body(m, NUM_TOKENS, stream=True)) for m in (BASE, f"{BASE}:ada")]
        safe = [Stream(body(m, NUM_TOKENS, stream=True)) for m in (OTHER, f"{OTHER}:bob")]
        running = await reading(server.url, [*lost, *safe])
        (engine,) = engines(server)[BASE]
        engine.send_signal(signal.SIGKILL)
        statuses = []
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            until_s = time.monotonic() + 3
            while time.monotonic() < until_s:
                answer = await client.post("/v1/completions", json=body(f"{OTHER}:bob"))
                statuses.append(answer.status_code)
        async with asyncio.timeout(90):
            await running
        return lost, safe, statuses

    others = {process.pid for process in engines(server)[OTHER]}
    lost, safe, statuses = asyncio.run(lose_base())
    assert len(statuses) > 10
    assert set(statuses) == {200}
    for stream in (*safe, *lost):
        assert (stream.status, stream.is_done, stream.error) == (200, True, None)
        words = [word.partition(":")[0] for word in stream.text.split()]
        assert words == [str(PROMPT[i % len(PROMPT)]) for i in range(NUM_TOKENS)]
    assert {process.pid for process in engines(server)[OTHER]} == others
    assert server.gauge("flora_lost_requests_total") > 0
    assert ask(server, f"{BASE}:ada").status_code == 200
