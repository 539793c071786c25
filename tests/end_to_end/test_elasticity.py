"""Replicas come and go with the load: no stream breaks, and who comes first waits for the first."""

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest

from contracts.load import EXPECTED_TOKENS
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

# Longer than what a replica expects of an answer: it seems idle while it still has streams.
NUM_TOKENS = 1900
STEP_S = 0.06
# Before a replica seems idle more streams come, however long the second takes to start.
MORE_EVERY_S = 0.4 * EXPECTED_TOKENS * STEP_S
SETTINGS = {
    "replica.num_cpus": 0.1,
    "replica.scaling.min_replicas": 0,
    "replica.scaling.max_replicas": 3,
    "replica.scaling.target_load_tokens": 1000,
    "replica.scaling.upscale_delay_s": 0.5,
    "replica.scaling.downscale_delay_s": 1,
    "replica.scaling.drain_s": 1,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EchoServer]:
    words = [f"--set={name}={value}" for name, value in SETTINGS.items()]
    with echo_server(tmp_path_factory.mktemp("serve"), STEP_S, *words) as server:
        assert server.publish("ada", 1).status_code == 200
        yield server


def until(is_so: Callable[[], bool], timeout_s: float = 120) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s, "it never became so"
        time.sleep(0.2)


def num_replicas(server: EchoServer) -> int:
    return len(replica_processes(server.url))


async def streams_until_some_have_moved(server: EchoServer) -> list[Stream]:
    """More and more streams until several replicas carry some, and then until one goes."""
    streams: list[Stream] = []
    tasks = []
    while sum(number > 0 for number in server.gauges("flora_running_sequences")) < 2:
        assert len(streams) < 200, "there is but one replica"
        more = [Stream(body_of(name, NUM_TOKENS, stream=True)) for name in ("", "ada") * 4]
        tasks.append(await reading(server.url, more))
        streams += more
        await asyncio.sleep(MORE_EVERY_S)
    await asyncio.to_thread(until, lambda: server.gauge("flora_lost_requests_total") > 0)
    before = [len(stream.text) for stream in streams]
    await asyncio.to_thread(
        until, lambda: all(len(s.text) > b for s, b in zip(streams, before, strict=True))
    )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return streams


def test_streams_outlive_the_replicas_that_carry_them(server: EchoServer) -> None:
    streams = asyncio.run(streams_until_some_have_moved(server))
    for stream in streams:
        assert (stream.status, stream.error) == (200, None)
        words = [word.partition(":")[0] for word in stream.text.split()]
        assert words == [str(PROMPT[i % len(PROMPT)]) for i in range(len(words))]
    until(lambda: server.gauge("flora_running_requests") == 0)


def test_the_first_request_waits_for_the_first_replica(server: EchoServer) -> None:
    until(lambda: num_replicas(server) == 0)
    answer = server.ask("ada", max_tokens=2)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 2
    assert num_replicas(server) > 0
