"""When a window closes."""

import asyncio
from collections.abc import Sequence

from app.ask import Ask
from app.gather import LocalGather
from app.token_stream import TokenStream
from contracts.generation import Sampling


class Opened:
    """Keeps the sizes of the windows."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, asks: Sequence[Ask]) -> list[TokenStream]:
        self.sizes.append(len(asks))
        return [TokenStream(ask.request_id) for ask in asks]


def make_ask(number: int) -> Ask:
    return Ask(f"r{number}", "tiny", None, (1,), Sampling(1))


async def test_a_full_window_closes_at_once() -> None:
    opened = Opened()
    gather = LocalGather(opened, max_batch_size=3, wait_s=60)
    streams = await asyncio.gather(*(gather(make_ask(i)) for i in range(3)))
    assert ([s.request_id for s in streams], opened.sizes) == (["r0", "r1", "r2"], [3])


async def test_a_window_closes_when_its_first_request_has_waited() -> None:
    opened = Opened()
    gather = LocalGather(opened, max_batch_size=4, wait_s=0.01)
    await asyncio.gather(*(gather(make_ask(i)) for i in range(6)))
    assert opened.sizes == [4, 2]


async def test_who_has_left_is_not_opened() -> None:
    opened = Opened()
    gather = LocalGather(opened, max_batch_size=4, wait_s=0.01)
    leaves = asyncio.ensure_future(gather(make_ask(0)))
    await asyncio.sleep(0)
    leaves.cancel()
    await gather(make_ask(1))
    assert opened.sizes == [1]
