"""The same work on many items, a bounded number of them at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


async def for_each(
    items: Iterable[T] | AsyncIterator[T], work: Callable[[T], Awaitable[None]], *, limit: int
) -> None:
    """Await `work` for every item, `limit` of them beside each other, in no order.

    Items are taken as places come free, so any number of them may follow. The first failure ends
    all and is raised.
    """
    source = items if isinstance(items, AsyncIterator) else _walk(items)
    taking = asyncio.Lock()

    async def take_turns() -> None:
        while True:
            async with taking:
                try:
                    item = await anext(source)
                except StopAsyncIteration:
                    return
            await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(take_turns())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _walk(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item
