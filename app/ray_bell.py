"""Ray Serve's request batching as the bell of windows."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ray import serve

from app.gather import WindowTuning

_LOG = logging.getLogger(__name__)
_MAX_CONCURRENT_BATCHES = 1024


class BatchBell:
    """The Bell over `@serve.batch`.

    What is batched is one ticket a request, which says only that somebody waits; who goes when a
    batch is complete is decided then, fairly. A batch only opens its streams, so the next one
    never waits for tokens.
    """

    def __init__(self) -> None:
        self._close: Callable[[int], None] = lambda number: None
        self._tickets: set[asyncio.Task[None]] = set()
        self._num_out = 0

        @serve.batch(max_concurrent_batches=_MAX_CONCURRENT_BATCHES)
        async def window(tickets: list[None]) -> list[None]:
            self._num_out -= len(tickets)
            self._close(len(tickets))
            return tickets

        self._window: Any = window

    def start(self, close: Callable[[int], None]) -> None:
        """See Bell."""
        self._close = close

    def tune(self, tuning: WindowTuning) -> None:
        """See Bell."""
        self._window.set_max_batch_size(tuning.max_batch_size)

    def ring(self, num_ready: int, wait_s: float) -> None:
        """See Bell."""
        # A batch reads its wait when its first ticket arrives.
        self._window.set_batch_wait_timeout_s(wait_s)
        while self._num_out < num_ready:
            self._num_out += 1
            ticket = asyncio.get_running_loop().create_task(self._wait())
            self._tickets.add(ticket)
            ticket.add_done_callback(self._tickets.discard)

    async def _wait(self) -> None:
        try:
            await self._window(None)
        except Exception:
            _LOG.exception("a window could not be opened")
