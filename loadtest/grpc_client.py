"""Streamed answers over the gRPC API of flora-serve.

Its messages are the one thing that load tests share with the server: what both sides agree on.
"""

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf.message_factory import GetMessageClass

from app.protos.flora.v1 import flora_pb2 as pb
from loadtest.outcome import Stopwatch
from loadtest.target import TIMEOUT, UNREACHABLE, Request, verdict

_METHOD = pb.DESCRIPTOR.services_by_name["Generation"].methods_by_name["GenerateStream"]
_CHANNELS = 8
"""Connections that the calls take turns on: one alone has a bound on streams at a time."""
_CODE = "flora-error-code"
_OWN_CODES = {
    grpc.StatusCode.DEADLINE_EXCEEDED: TIMEOUT,
    grpc.StatusCode.UNAVAILABLE: UNREACHABLE,
}


def use_gevent() -> None:
    """Have gRPC's waits give way to other greenlets; before the first channel."""
    from grpc.experimental.gevent import init_gevent

    init_gevent()


class GrpcClient:
    """Asks the server at `address`, host:port, without TLS."""

    def __init__(self, address: str, timeout_s: float) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.insecure_channel(address, options=options) for _ in range(_CHANNELS)]
        self._calls = [_stub(channel) for channel in self._channels]
        self._timeout_s = timeout_s
        self._next = 0

    def stream(self, request: Request, watch: Stopwatch) -> str:
        """See Client."""
        message = pb.GenerateRequest(
            model=request.model,
            token_ids=pb.TokenIds(ids=request.prompt),
            sampling=pb.Sampling(max_tokens=request.num_tokens, temperature=0.0, ignore_eos=True),
        )
        metadata = [("authorization", f"Bearer {request.key}")] if request.key else []
        self._next = (self._next + 1) % _CHANNELS
        watch.sent()
        call = self._calls[self._next](message, timeout=self._timeout_s, metadata=metadata)
        try:
            _follow(call, watch)
        except grpc.RpcError as error:
            return code_of(error)
        return verdict(request, watch)

    def close(self) -> None:
        """See Client."""
        for channel in self._channels:
            channel.close()


def code_of(error: Any) -> str:
    """The server's own code where it gave one, else what became of the call."""
    trailers = dict(error.trailing_metadata() or ())
    own = _OWN_CODES.get(error.code(), error.code().name.lower())
    return str(trailers.get(_CODE, own))


def _follow(messages: Iterable[Any], watch: Stopwatch) -> None:
    for message in messages:
        if any(delta.token_ids for delta in message.deltas):
            watch.token_event()
        if message.HasField("usage"):
            watch.usage(message.usage.completion_tokens)


def _stub(channel: Any) -> Any:
    return channel.unary_stream(
        f"/{_METHOD.containing_service.full_name}/{_METHOD.name}",
        request_serializer=GetMessageClass(_METHOD.input_type).SerializeToString,
        response_deserializer=GetMessageClass(_METHOD.output_type).FromString,
    )
