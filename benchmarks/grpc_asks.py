"""Many streamed gRPC answers at once: what `streaming_client` does over HTTP."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.grpc_client import open_channel, stream
from benchmarks.streaming_client import Answer, Ask


async def ask_together(address: str, asks: Sequence[Ask]) -> tuple[list[Answer], float]:
    """All at once, each on a connection that was opened before; answers and seconds for all."""
    async with AsyncExitStack() as stack:
        channels = [await stack.enter_async_context(open_channel(address)) for _ in asks]
        await asyncio.gather(*(channel.channel_ready() for channel in channels))
        started_s = time.perf_counter()
        pairs = zip(channels, asks, strict=True)
        answers = await asyncio.gather(*(_follow(channel, ask) for channel, ask in pairs))
        return answers, time.perf_counter() - started_s


async def _follow(channel: Any, ask: Ask) -> Answer:
    started_s = time.perf_counter()
    ttft_s, num_tokens = 0.0, 0
    async for count in stream(channel, ask.model, ask.prompt, ask.num_tokens):
        ttft_s = ttft_s or time.perf_counter() - started_s
        num_tokens += count
    return Answer(num_tokens, ttft_s)
