"""A replica's process is killed at work: its streams say so, and the next one takes over."""

import asyncio
import time
from collections.abc import Callable, Iterator

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.end_to_end.echo_server import (
    EchoServer,
    Stream,
    body_of,
    echo_server,
    reading,
    replica_processes,
)

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

# What a request may be told while no replica runs; all of them may be tried again.
PASSING = {"engine_failed", "not_ready", "overloaded", "deadline_exceeded"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoServer]:
    with echo_server(tmp_path_factory.mktemp("serve"), step_s=0.02) as server:
        assert server.publish("ada", 1).status_code == 200
        yield server


def kill_replicas(url: str) -> list[psutil.Process]:
    """All replicas and what runs below them; returns who must be gone now."""
    replicas = replica_processes(url)
    assert replicas
    family = [p for replica in replicas for p in (replica, *replica.children(recursive=True))]
    for replica in replicas:
        replica.kill()
    return family


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def until(is_so: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it never became so"
        time.sleep(0.2)


async def streams_through_a_kill(url: str, streams: list[Stream]) -> list[psutil.Process]:
    task = await reading(url, streams)
    killed = await asyncio.to_thread(kill_replicas, url)
    async with asyncio.timeout(60):
        await task
    return killed


def assert_cut_cleanly(streams: list[Stream]) -> None:
    """Status 200 and some tokens, then one error event and a proper end."""
    for stream in streams:
        assert (stream.status, stream.is_done) == (200, True)
        assert stream.text
        assert stream.error is not None
        assert stream.error["code"] == "engine_failed"
        assert len(stream.error["message"]) > 10


def answers_again(ask: Callable[[], httpx.Response]) -> Callable[[], bool]:
    """Whether `ask` has its answer now. Until it has, it is refused in a way that says retry."""

    def is_so() -> bool:
        answer = ask()
        if answer.status_code != 200:
            assert answer.json()["error"]["code"] in PASSING, answer.text
        return answer.status_code == 200

    return is_so


def test_streams_end_with_an_error_and_the_next_replica_takes_over(server: EchoServer) -> None:
    before = server.ask("ada")
    assert before.status_code == 200
    streams = [Stream(body_of(name, 1500, stream=True)) for name in ("", "ada") * 4]
    killed = asyncio.run(streams_through_a_kill(server.url, streams))
    assert_cut_cleanly(streams)
    until(answers_again(server.ask))
    until(answers_again(lambda: server.ask("ada")))
    assert server.ask("ada").json()["choices"] == before.json()["choices"]
    assert all(is_gone(process) for process in killed)
    assert {p.pid for p in replica_processes(server.url)}.isdisjoint(p.pid for p in killed)
    assert server.gauge("flora_running_requests") == 0


def test_requests_that_come_meanwhile_all_end(server: EchoServer) -> None:
    """None hangs: each has its answer, or is told to come again."""

    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            tasks = []
            for number in range(40):
                body = body_of("ada" if number % 2 else "", 20, stream=False)
                tasks.append(asyncio.create_task(client.post("/v1/completions", json=body)))
                await asyncio.sleep(0.1)
                if number == 5:
                    await asyncio.to_thread(kill_replicas, server.url)
            return list(await asyncio.gather(*tasks))

    answers = asyncio.run(ask_all())
    for answer in answers:
        if answer.status_code != 200:
            assert answer.json()["error"]["code"] in PASSING, answer.text
    until(answers_again(lambda: server.ask("ada")))
    assert answers[0].status_code == 200
    assert server.gauge("flora_running_requests") == 0
