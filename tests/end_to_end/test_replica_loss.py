"""A replica's process is killed or stopped at work: its streams go on elsewhere."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator

import httpx
import psutil  # type: ignore[import-untyped]
import pytest

from tests.end_to_end.echo_server import (
    PROMPT,
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
NUM_TOKENS = 150
SETTINGS = {"replica.num_replicas": 2, "replica.num_cpus": 0.1, "failover.hang_after_s": 4}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoServer]:
    words = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    with echo_server(tmp_path_factory.mktemp("serve"), 0.02, *words) as server:
        assert server.publish("ada", 1).status_code == 200
        yield server


def signal_replicas(url: str, number: signal.Signals, count: int) -> list[psutil.Process]:
    """The busiest replicas; returns them and what runs below them."""
    replicas = busiest_first(replica_processes(url))[:count]
    assert len(replicas) == count
    family = [p for replica in replicas for p in (replica, *replica.children(recursive=True))]
    for replica in replicas:
        replica.send_signal(number)
    return family


def busiest_first(processes: list[psutil.Process]) -> list[psutil.Process]:
    """By how often each woke up within half a second: one with streams does at each token."""
    before = [process.num_ctx_switches().voluntary for process in processes]
    time.sleep(0.5)
    wakes = [p.num_ctx_switches().voluntary - n for p, n in zip(processes, before, strict=True)]
    order = sorted(range(len(processes)), key=lambda place: -wakes[place])
    return [processes[place] for place in order]


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def until(is_so: Callable[[], bool], timeout_s: float = 60) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it never became so"
        time.sleep(0.2)


async def streams_through(
    url: str, streams: list[Stream], number: signal.Signals, count: int
) -> list[psutil.Process]:
    task = await reading(url, streams)
    hit = await asyncio.to_thread(signal_replicas, url, number, count)
    async with asyncio.timeout(90):
        await task
    return hit


def assert_unbroken(streams: list[Stream]) -> None:
    """All tokens, each once, and no word of what happened."""
    for stream in streams:
        assert (stream.status, stream.is_done, stream.error) == (200, True, None)
        words = [word.partition(":")[0] for word in stream.text.split()]
        assert words == [str(PROMPT[i % len(PROMPT)]) for i in range(NUM_TOKENS)]


def answers_again(ask: Callable[[], httpx.Response]) -> Callable[[], bool]:
    """Whether `ask` has its answer now. Until it has, it is refused in a way that says retry."""

    def is_so() -> bool:
        answer = ask()
        if answer.status_code != 200:
            assert answer.json()["error"]["code"] in PASSING, answer.text
        return answer.status_code == 200

    return is_so


@pytest.mark.parametrize("count", [1, 2])
def test_streams_go_on_elsewhere(server: EchoServer, count: int) -> None:
    """On another replica, or on the next one where none is left."""
    before = server.ask("ada")
    assert before.status_code == 200
    until(lambda: len(replica_processes(server.url)) == 2)
    streams = [Stream(body_of(name, NUM_TOKENS, stream=True)) for name in ("", "ada") * 4]
    killed = asyncio.run(streams_through(server.url, streams, signal.SIGKILL, count))
    assert_unbroken(streams)
    until(answers_again(lambda: server.ask("ada")))
    assert server.ask("ada").json()["choices"] == before.json()["choices"]
    assert all(is_gone(process) for process in killed)
    assert server.gauge("flora_lost_requests_total") > 0
    assert server.gauge("flora_running_requests") == 0


@pytest.mark.parametrize("num_streams", [8, 1])
def test_streams_leave_a_replica_that_hangs(server: EchoServer, num_streams: int) -> None:
    """Also where the other one has nothing to do."""
    until(lambda: len(replica_processes(server.url)) == 2)
    names = ["", "ada"] * 4
    streams = [Stream(body_of(name, NUM_TOKENS, stream=True)) for name in names[:num_streams]]
    hung = asyncio.run(streams_through(server.url, streams, signal.SIGSTOP, 1))
    try:
        assert_unbroken(streams)
    finally:
        for process in hung:
            process.kill()
    until(answers_again(lambda: server.ask("ada")))
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
                    await asyncio.to_thread(signal_replicas, server.url, signal.SIGKILL, 1)
            return list(await asyncio.gather(*tasks))

    answers = asyncio.run(ask_all())
    for answer in answers:
        if answer.status_code != 200:
            assert answer.json()["error"]["code"] in PASSING, answer.text
    until(answers_again(lambda: server.ask("ada")))
    assert answers[0].status_code == 200
    assert server.gauge("flora_running_requests") == 0
