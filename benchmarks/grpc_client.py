"""A client of the gRPC API that counts tokens.

    async with open_channel("127.0.0.1:9000") as channel:
        async for num_tokens in stream(channel, "model", prompt, max_tokens):
            ...

`num_tokens` is what one message brought; a message without tokens is not given. Every channel is
a connection of its own, like an HTTP client; calls on one channel share it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from app.grpc_services import caller_of
from app.protos.flora.v1 import flora_pb2 as pb

_GENERATE_STREAM = pb.DESCRIPTOR.services_by_name["Generation"].methods_by_name["GenerateStream"]
_OPTIONS = [
    # gRPC shares connections between channels to one address, unless told not to.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 16 * 1024**2),
]


@asynccontextmanager
async def open_channel(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A connection to `address`, host:port, without TLS."""
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        yield channel


async def stream(
    channel: grpc.aio.Channel,
    model: str,
    prompt: str | Sequence[int],
    max_tokens: int,
    *,
    key: str = "",
) -> AsyncIterator[int]:
    """Tokens of each message of one greedy answer that does not stop early.

    `prompt` is a text or token ids, `key` an API key. Raises grpc.aio.AioRpcError.
    """
    request = pb.GenerateRequest(
        model=model,
        sampling=pb.Sampling(max_tokens=max_tokens, temperature=0.0, ignore_eos=True),
    )
    if isinstance(prompt, str):
        request.text = prompt
    else:
        request.token_ids.ids.extend(prompt)
    metadata: list[tuple[str, Any]] = [("authorization", f"Bearer {key}")] if key else []
    async for message in caller_of(channel, _GENERATE_STREAM)(request, metadata=metadata):
        num_tokens = sum(len(delta.token_ids) for delta in message.deltas)
        if num_tokens:
            yield num_tokens
