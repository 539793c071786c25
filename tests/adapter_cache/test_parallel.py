import asyncio
from collections.abc import AsyncIterator

import pytest

from adapter_cache.parallel import for_each


async def test_everything_is_done_under_the_bound() -> None:
    now, most, seen = 0, 0, []

    async def work(item: int) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        seen.append(item)

    await for_each(range(50), work, limit=4)
    assert (sorted(seen), most) == ([*range(50)], 4)
    await for_each([], work, limit=4)


async def test_items_are_taken_one_ahead_at_most() -> None:
    taken = 0

    async def items() -> AsyncIterator[int]:
        nonlocal taken
        for item in range(100):
            taken += 1
            yield item

    async def work(item: int) -> None:
        assert taken <= item + 5
        await asyncio.sleep(0)

    await for_each(items(), work, limit=4)
    assert taken == 100


async def test_the_first_failure_ends_all() -> None:
    done = []

    async def work(item: int) -> None:
        if item == 3:
            raise KeyError(item)
        await asyncio.sleep(0.01)
        done.append(item)

    with pytest.raises(KeyError, match="3"):
        await for_each(range(100), work, limit=2)
    assert len(done) < 10
