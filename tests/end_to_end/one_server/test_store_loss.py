"""Redis is killed, hangs and comes back, with or without its data, under a server at work."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest

from tests.end_to_end.echo_server import (
    BASE,
    PROMPT,
    EchoServer,
    Stream,
    body_of,
    reading,
)

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

NAMES = ("one", "two", "three", "four")
STEP_S = 0.02


@pytest.fixture(scope="module", autouse=True)
def _published(server: EchoServer) -> None:
    for seed, name in enumerate((*NAMES, "cold", "colder")):
        assert server.publish(name, seed).status_code == 200


@pytest.fixture
def resident(server: EchoServer) -> dict[str, str]:
    """What each name's adapter makes of one token; from now on it is on the node."""
    found = {name: server.ask(name) for name in ("", *NAMES)}
    assert {answer.status_code for answer in found.values()} == {200}
    return {name: text_of(answer) for name, answer in found.items()}


def text_of(answer: httpx.Response) -> str:
    text: str = answer.json()["choices"][0]["text"]
    return text.strip()


def code_of(answer: httpx.Response) -> str:
    code: str = answer.json()["error"]["code"]
    return code


def until(is_so: Callable[[], bool]) -> None:
    for _ in range(300):
        if is_so():
            return
        time.sleep(0.1)
    raise AssertionError("it never became so")


def assert_base_and_resident_are_served(server: EchoServer, resident: dict[str, str]) -> None:
    for name, text in resident.items():
        answer = server.ask(name)
        assert answer.status_code == 200, answer.text
        assert text_of(answer) == text


def assert_refused_for_now(answer: httpx.Response) -> None:
    assert (answer.status_code, code_of(answer)) == (503, "store_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


def assert_healed(server: EchoServer, cold: str) -> None:
    """Without a restart: cold adapters are served, and uploads seen."""
    until(lambda: server.ask(cold).status_code == 200)
    before = text_of(server.ask("four"))
    seed = time.monotonic_ns() % 1_000_000
    until(lambda: server.publish("four", seed).status_code == 200)
    until(lambda: text_of(server.ask("four")) != before)


async def stream_through(server: EchoServer, happening: Callable[[], None]) -> list[Stream]:
    """Sixteen streams on four adapters, whole, although something happens in their midst."""
    streams = [Stream(body_of(name, 150, stream=True)) for name in NAMES * 4]
    task = await reading(server.url, streams)
    await asyncio.to_thread(happening)
    await task
    return streams


def test_streams_end_as_they_began_and_only_cold_adapters_wait(
    server: EchoServer, resident: dict[str, str]
) -> None:
    streams = asyncio.run(stream_through(server, server.kill_valkey))
    for stream in streams:
        name = stream.body["model"].removeprefix(f"{BASE}:")
        mark = resident[name].partition(":")[2]
        expected = [f"{PROMPT[i % len(PROMPT)]}:{mark}" for i in range(150)]
        assert (stream.text.split(), stream.error, stream.is_done) == (expected, None, True)

    assert_base_and_resident_are_served(server, resident)
    assert_refused_for_now(server.ask("cold"))
    upload = server.publish("new", 99)
    assert (upload.status_code, code_of(upload)) == (503, "store_unavailable")
    assert server.http.get("/healthz").status_code == 200
    assert_base_and_resident_are_served(server, resident)

    server.restart_valkey()
    assert_healed(server, "cold")


class Load:
    """Requests for resident adapters, one after the other in eight threads, until `stop`."""

    def __init__(self, server: EchoServer, resident: dict[str, str]) -> None:
        self.outcomes: Counter[str] = Counter()
        self._server = server
        self._resident = [pair for pair in resident.items() if pair[0] != "four"]
        self._is_over = False

    def stop(self) -> None:
        self._is_over = True

    def run(self) -> None:
        number = 0
        while not self._is_over:
            name, text = self._resident[number % len(self._resident)]
            answer = self._server.ask(name)
            number += 1
            if answer.status_code != 200:
                self.outcomes[f"{answer.status_code} {code_of(answer)}"] += 1
            else:
                self.outcomes["right" if text_of(answer) == text else "wrong"] += 1


@contextmanager
def under(load: Load) -> Iterator[None]:
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(load.run) for _ in range(8)]
        try:
            yield
        finally:
            load.stop()
        for each in running:
            each.result()


def test_a_restart_under_load_costs_resident_adapters_nothing(
    server: EchoServer, resident: dict[str, str]
) -> None:
    load = Load(server, resident)
    with under(load):
        until(lambda: load.outcomes.total() > 20)
        server.kill_valkey()
        num_before = load.outcomes.total()
        until(lambda: load.outcomes.total() > num_before + 100)
        server.restart_valkey()
        assert_healed(server, "cold")
    assert set(load.outcomes) == {"right"}, load.outcomes


def test_a_store_that_hangs_is_no_worse(server: EchoServer, resident: dict[str, str]) -> None:
    server.signal_valkey(signal.SIGSTOP)
    try:
        assert_base_and_resident_are_served(server, resident)
        assert_refused_for_now(server.ask("colder"))
        assert_base_and_resident_are_served(server, resident)
    finally:
        server.signal_valkey(signal.SIGCONT)
    assert_healed(server, "colder")


def test_a_store_that_lost_everything_is_filled_again(
    server: EchoServer, resident: dict[str, str]
) -> None:
    server.kill_valkey()
    server.restart_valkey(empty=True)
    # The first look-ups meet an empty registry, or none, or one half rebuilt.
    for _ in range(5):
        assert_base_and_resident_are_served(server, resident)
    assert_healed(server, "colder")
