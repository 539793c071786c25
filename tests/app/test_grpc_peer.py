"""Who is on this machine, and that a server for it answers nobody else."""

from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from app.grpc_calls import GrpcCalls
from app.grpc_peer import is_near
from tests.app.grpc_parts import METHODS, Servicer, call, failure, grpc_server
from tests.app.parts import make_door


@pytest.mark.parametrize(
    ("peer", "near"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv4:127.9.9.9:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:[::1]:5000", True),
        ("ipv6:[::ffff:127.0.0.1]:5000", True),
        ("ipv4:10.0.0.7:5000", True),
        ("ipv6:[::ffff:10.0.0.7]:5000", True),
        ("ipv6:[fe80::7%25eth0]:5000", True),
        ("unix:/tmp/socket", True),
        ("unix:", True),
        ("ipv4:10.0.0.8:5000", False),
        ("ipv6:[::ffff:10.0.0.8]:5000", False),
        ("ipv6:[fe80::8]:5000", False),
        ("ipv4:0.0.0.0:5000", False),
        ("localhost:5000", False),
        ("ipv4:localhost:5000", False),
        ("", False),
        ("ipv4:", False),
    ],
)
def test_the_loopback_and_own_addresses_are_near(peer: str, near: bool) -> None:
    assert is_near(peer, {"10.0.0.7", "fe80::7"}) == near


class Far:
    """A call from another machine."""

    def __init__(self) -> None:
        self.status: Any = None
        self.trailers: list[tuple[str, str]] = []

    def peer(self) -> str:
        return "ipv4:192.0.2.1:5000"

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def code(self) -> Any:
        return self.status

    def set_code(self, code: grpc.StatusCode) -> None:
        self.status = code

    def set_details(self, details: str) -> None:
        assert "machine" in details

    def trailing_metadata(self) -> list[tuple[str, str]]:
        return self.trailers

    def set_trailing_metadata(self, trailers: list[tuple[str, str]]) -> None:
        self.trailers = trailers


@pytest.mark.parametrize("name", METHODS)
async def test_a_server_for_its_own_machine_answers_no_other(name: str) -> None:
    method, far = METHODS[name], Far()
    running = getattr(Servicer(make_door(), near_only=True), name)
    answer = running(GetMessageClass(method.input_type)(), far)
    message = await anext(answer) if method.server_streaming else await answer
    assert (far.status, message.ListFields()) == (grpc.StatusCode.PERMISSION_DENIED, [])


async def test_it_answers_its_own_machine() -> None:
    door = make_door()
    async with (
        grpc_server(door, near_only=True) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        request = GetMessageClass(METHODS["ListAdapters"].input_type)()
        assert not (await call(channel, "ListAdapters", request)).adapters
        wrong = GetMessageClass(METHODS["GetAdapter"].input_type)(name="a")
        assert (await failure(call(channel, "GetAdapter", wrong))).code() == (
            grpc.StatusCode.NOT_FOUND
        )


def test_a_server_for_everybody_asks_nobody_where_they_are() -> None:
    GrpcCalls(make_door(), near_only=False).require_near(Far())
