"""The replica with the real model is killed at work. The last file of its folder, by its name."""

import asyncio
import signal

import httpx
import pytest

from tests.end_to_end.echo_server import Stream, reading
from tests.end_to_end.real_model.demo import BASE
from tests.end_to_end.test_replica_loss import (
    answers_again,
    is_gone,
    streams_through,
    until,
)

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.ray,
    pytest.mark.redis,
    pytest.mark.timeout(400),
]
NUM_TOKENS = 80


def test_an_engine_ends_with_its_replica_and_the_next_one_loads(url: str) -> None:
    def ask(name: str = "") -> httpx.Response:
        # While no replica runs a request waits for one, and a model takes a minute to load.
        body = {"model": f"{BASE}{name}", "prompt": "Once", "ignore_eos": True}
        return httpx.post(
            f"{url}/v1/completions",
            json=body | {"max_tokens": 4, "temperature": 0},
            headers={"X-Request-Timeout-S": "20"},
            timeout=60,
        )

    before = ask(), ask(":pirate")
    assert [answer.status_code for answer in before] == [200, 200]
    unbroken = make_streams()
    asyncio.run(read_all(url, unbroken))
    streams = make_streams()
    killed = asyncio.run(streams_through(url, streams, signal.SIGKILL, 1))
    # They waited for the next replica, and went on behind the tokens that they had.
    for stream, whole in zip(streams, unbroken, strict=True):
        assert (stream.status, stream.is_done, stream.error) == (200, True, None)
        assert stream.text == whole.text
    # The model's memory with them: a process that outlived its replica would keep it for ever.
    until(lambda: all(is_gone(process) for process in killed), 10)
    until(answers_again(ask), 200)
    after = ask(), ask(":pirate")
    assert [a.json()["choices"] for a in after] == [b.json()["choices"] for b in before]


def make_streams() -> list[Stream]:
    return [
        Stream(
            {
                "model": f"{BASE}{name}",
                "prompt": "Once upon a time",
                "ignore_eos": True,
                "max_tokens": NUM_TOKENS,
                "temperature": 0,
                "stream": True,
            }
        )
        for name in ("", ":pirate") * 2
    ]


async def read_all(url: str, streams: list[Stream]) -> None:
    await (await reading(url, streams))
