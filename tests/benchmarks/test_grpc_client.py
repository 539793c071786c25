"""The benchmark's client against a server of this process."""

import grpc
import pytest

from benchmarks.grpc_client import open_channel, stream
from tests.app.grpc_parts import grpc_server
from tests.app.parts import CountingReplica, make_door


@pytest.mark.parametrize("prompt", ["hi", [7, 8]])
async def test_every_token_is_counted_once(prompt: str | list[int]) -> None:
    replica = CountingReplica()
    async with grpc_server(make_door(replica)) as address, open_channel(address) as channel:
        counts = [number async for number in stream(channel, "tiny", prompt, 7)]
    assert sum(counts) == 7
    assert all(counts)
    (sent,) = replica.groups[0]
    assert (len(sent.prompt_token_ids), sent.sampling.ignore_eos) == (2, True)


async def test_a_failure_is_raised() -> None:
    async with grpc_server(make_door()) as address, open_channel(address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(stream(channel, "other", "hi", 1))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
