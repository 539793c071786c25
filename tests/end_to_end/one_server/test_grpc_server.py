"""gRPC through a whole server, HAProxy and Ray Serve in front, as a client that has no stubs calls
it: whatever it knows of messages it has from the reflection service.
"""

import asyncio
import base64
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass

from app.grpc_services import caller_of
from benchmarks.grpc_client import open_channel, stream
from flora.adapter_files import write_adapter
from flora.layout import AdapterLayout
from replicas.echo_engine import EchoEngine
from tests.end_to_end.echo_server import EchoServer
from tests.end_to_end.one_server.reflected import ReflectedClient
from tests.flora.adapters import make_adapter

pytestmark = [pytest.mark.ray, pytest.mark.redis, pytest.mark.slow]

STEP_S = 0.02
LONG = {"model": "tiny", "text": "hi", "sampling": {"maxTokens": 500}}


@pytest.fixture(scope="module")
def client(port_and_server: tuple[int, EchoServer]) -> Iterator[ReflectedClient]:
    address = f"127.0.0.1:{port_and_server[0]}"
    with grpc.insecure_channel(address) as channel:
        yield ReflectedClient(address, channel)


def parts_of(name: str, seed: int = 1) -> list[dict[str, Any]]:
    layout = AdapterLayout.from_json(asyncio.run(EchoEngine().start()).layout_json)
    weights, config = write_adapter(make_adapter(layout, seed=seed), "float32")
    chunks = [weights[at : at + 100] for at in range(0, len(weights), 100)]
    return [
        {"header": {"name": name}},
        {"config": as_json(config)},
        *({"weights": as_json(chunk)} for chunk in chunks),
    ]


def as_json(data: bytes) -> str:
    return base64.b64encode(data).decode()


def until(is_so: Callable[[], bool], timeout_s: float = 5.0) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return is_so()


def test_reflection_health_and_a_call_of_each_kind(client: ReflectedClient) -> None:
    expected = {"flora.v1.Generation", "flora.v1.Adapters", "grpc.health.v1.Health"}
    assert expected < client.services()
    assert client.one("grpc.health.v1.Health/Check", {}) == {"status": "SERVING"}
    made = client.one("flora.v1.Adapters/PublishAdapter", *parts_of("mine"))["adapter"]
    listed = client.one("flora.v1.Adapters/ListAdapters", {"pageSize": 10})["adapters"]
    assert "mine" in [adapter["name"] for adapter in listed]
    body = {"model": made["model"], "text": "hi", "sampling": {"maxTokens": 3}}
    whole = client.one("flora.v1.Generation/Generate", body)
    assert whole["adapter"] == {"name": "mine", "version": 1, "digest": made["digest"]}
    assert whole["usage"] == {"promptTokens": 2, "completionTokens": 3}
    messages = [MessageToDict(m) for m in client.start("flora.v1.Generation/GenerateStream", body)]
    text = "".join(delta["text"] for message in messages for delta in message.get("deltas", ()))
    assert text == whole["choices"][0]["text"]
    assert messages[0]["adapter"] == whole["adapter"]
    assert messages[-1]["usage"] == whole["usage"]
    assert client.one("flora.v1.Adapters/DeleteAdapter", {"name": "mine"}) == {}


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
def test_errors_come_with_their_trailers(client: ReflectedClient, method: str) -> None:
    error = client.error(f"flora.v1.Generation/{method}", {"model": "tiny:nobody", "text": "x"})
    assert error.code() == grpc.StatusCode.NOT_FOUND
    trailers = dict(error.trailing_metadata())
    assert trailers["flora-error-code"] == "model_not_found"
    assert trailers["flora-error-param"] == "model"


@pytest.mark.parametrize("method", ["Generate", "GenerateStream"])
def test_deadlines_and_cancellation_free_the_engine(
    client: ReflectedClient, server: EchoServer, method: str
) -> None:
    def is_idle() -> bool:
        return server.gauge("flora_running_requests") == 0

    path = f"flora.v1.Generation/{method}"
    own = client.error(path, {**LONG, "timeoutS": 0.2})
    assert dict(own.trailing_metadata())["flora-error-code"] == "deadline_exceeded"
    assert until(is_idle)
    assert client.error(path, LONG, timeout=0.4).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert until(is_idle, 2.0)
    with ThreadPoolExecutor() as threads, grpc.insecure_channel(client.address) as channel:
        other = ReflectedClient(client.address, channel)
        running = threads.submit(lambda: list(other.start(path, LONG)))
        assert until(lambda: not is_idle())
        channel.close()
        assert until(is_idle, 2.0)
        assert running.exception() is not None


def test_hostile_uploads_are_refused_and_disturb_nobody(client: ReflectedClient) -> None:
    path = "flora.v1.Adapters/PublishAdapter"
    header, config, *weights = parts_of("bad")
    for bodies in (
        [],
        [header],
        [config, header],
        [header, header],
        [{"header": {"name": "../up"}}, *weights],
        [header, config, *weights[:-1]],
        [header, {"weights": as_json(os.urandom(90_000))}],
    ):
        assert client.error(path, *bodies).code() == grpc.StatusCode.INVALID_ARGUMENT
    large = {"weights": as_json(b"x" * 200_000)}
    assert client.error(path, header, large).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (
        client.error("flora.v1.Adapters/GetAdapter", {"name": "bad"}).code()
        == grpc.StatusCode.NOT_FOUND
    )
    assert client.one("grpc.health.v1.Health/Check", {}) == {"status": "SERVING"}


def test_an_upload_that_its_client_breaks_off_publishes_nothing(
    client: ReflectedClient, server: EchoServer
) -> None:
    whole = parts_of("broken")

    def slowly() -> Iterator[Any]:
        yield from whole
        time.sleep(1.0)

    service = "flora.v1.Adapters"
    method = client.method(f"{service}/PublishAdapter")
    kind = GetMessageClass(method.input_type)
    running = caller_of(client.channel, method).future(
        (ParseDict(body, kind()) for body in slowly()), timeout=20
    )
    time.sleep(0.5)
    running.cancel()
    time.sleep(0.7)
    missing = client.error(f"{service}/GetAdapter", {"name": "broken"})
    assert missing.code() == grpc.StatusCode.NOT_FOUND


def test_many_streams_come_whole(port_and_server: tuple[int, EchoServer]) -> None:
    async def read(address: str) -> list[int]:
        async with open_channel(address) as channel:

            async def one() -> int:
                return sum([number async for number in stream(channel, "tiny", [7, 8], 20)])

            return list(await asyncio.gather(*(one() for _ in range(32))))

    assert asyncio.run(read(f"127.0.0.1:{port_and_server[0]}")) == [20] * 32
