"""A gRPC server over a door in this process, and calls of it by name."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from app.door import Door
from app.grpc_calls import GrpcCalls
from app.grpc_door import GrpcDoor
from app.grpc_errors import CODE_KEY
from app.grpc_services import SERVICES, add_services, caller_of
from app.protos.flora.v1 import flora_pb2 as pb

METHODS = {method.name: method for service in SERVICES for method in service.methods}


class Servicer(GrpcDoor):
    def __init__(self, door: Door, *, near_only: bool = False) -> None:
        self._calls = GrpcCalls(door, near_only=near_only)


@asynccontextmanager
async def grpc_server(door: Door, *, near_only: bool = False) -> AsyncIterator[str]:
    """A server of its own; gives its address."""
    server = grpc.aio.server()
    add_services(Servicer(door, near_only=near_only), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def grpc_channel(door: Door) -> AsyncIterator[Any]:
    """A channel to a server of its own."""
    async with grpc_server(door) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


def call(channel: Any, name: str, request: Any, key: str = "", timeout_s: float = 20) -> Any:
    """The call object of `name`; a stream's has an iterator of requests."""
    metadata = (("authorization", f"Bearer {key}"),) if key else ()
    return caller_of(channel, METHODS[name])(request, metadata=metadata, timeout=timeout_s)


async def failure(running: Any) -> grpc.aio.AioRpcError:
    """How a call of either kind fails."""
    try:
        if isinstance(running, grpc.aio.UnaryStreamCall):
            while await running.read() is not grpc.aio.EOF:
                pass
        else:
            await running
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call did not fail")


async def refusal(make_call: Callable[[], Any]) -> grpc.aio.AioRpcError:
    """`failure` of a call that the server may end while the client still sends.

    There grpc.aio now and then loses the status to its own failed write: such a call is made again.
    """
    error = await failure(make_call())
    for _ in range(5):
        if error.details() != "Internal error from Core":
            break
        error = await failure(make_call())
    return error


def code_of(error: grpc.aio.AioRpcError) -> str:
    """Our code in the trailers."""
    return str(dict(error.trailing_metadata())[CODE_KEY])


def upload(
    name: str, weights: bytes, config: bytes = b"", chunk_bytes: int = 1000
) -> Iterator[pb.PublishAdapterRequest]:
    """The parts of an upload in order."""
    yield pb.PublishAdapterRequest(header=pb.PublishHeader(name=name))
    for piece in pieces(config, chunk_bytes):
        yield pb.PublishAdapterRequest(config=piece)
    for piece in pieces(weights, chunk_bytes):
        yield pb.PublishAdapterRequest(weights=piece)


def pieces(whole: bytes, chunk_bytes: int) -> Iterable[bytes]:
    return (whole[at : at + chunk_bytes] for at in range(0, len(whole), chunk_bytes))


def ask(text: str = "hi", model: str = "tiny", **sampling: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        model=model, text=text, sampling=pb.Sampling(**{"max_tokens": 3, **sampling})
    )
