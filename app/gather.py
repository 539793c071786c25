"""Who is together, without Ray: the in-process counterpart of `@serve.batch`."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from app.ask import Ask
from app.token_stream import TokenStream


class Gather(Protocol):
    """Puts one ask into the current window and gives its stream when the window has closed."""

    async def __call__(self, ask: Ask) -> TokenStream: ...


class OpenWindow(Protocol):
    """`Window.open`."""

    def __call__(self, asks: Sequence[Ask]) -> list[TokenStream]: ...


class LocalGather:
    """A window closes when it holds `max_batch_size` asks or `wait_s` after its first one."""

    def __init__(self, open_window: OpenWindow, *, max_batch_size: int, wait_s: float) -> None:
        self._open = open_window
        self._max_batch_size = max_batch_size
        self._wait_s = wait_s
        self._waiting: list[tuple[Ask, asyncio.Future[TokenStream]]] = []
        self._timer: asyncio.TimerHandle | None = None

    async def __call__(self, ask: Ask) -> TokenStream:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[TokenStream] = loop.create_future()
        self._waiting.append((ask, future))
        if len(self._waiting) >= self._max_batch_size:
            self._close_window()
        elif len(self._waiting) == 1:
            self._timer = loop.call_later(self._wait_s, self._close_window)
        return await future

    def _close_window(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        waiting, self._waiting = self._waiting, []
        wanted = [(ask, future) for ask, future in waiting if not future.cancelled()]
        streams = self._open([ask for ask, _ in wanted]) if wanted else []
        for (_, future), stream in zip(wanted, streams, strict=True):
            future.set_result(stream)
