"""The tokens of one request on their way to one client, inside one event loop."""

import asyncio
from collections.abc import Callable
from typing import Self

from app.quota import Standing
from contracts.adapters import AdapterKey
from contracts.errors import ServingError
from contracts.generation import TokenDelta


class TokenStream:
    """Iterates over bursts: each step gives every delta that has arrived since the last one.

    A client that reads slowly gets longer bursts, never a blocked sender; what may be pending is
    bounded by the request's own `max_tokens`. The iteration raises the ServingError that ended
    the request, after the tokens that came before it. `close` is for a reader who leaves: it
    calls `on_close(request_id)` at once if the request is still running. `adapter` is the version
    that answers, None until that is settled; it is so before the first token. `standing` is what
    the caller's key has left, where it has a quota.
    """

    __slots__ = (
        "_closed",
        "_error",
        "_on_close",
        "_open_choices",
        "_pending",
        "_waiter",
        "adapter",
        "request_id",
        "standing",
    )

    def __init__(
        self, request_id: str, num_choices: int = 1, on_close: Callable[[str], None] | None = None
    ) -> None:
        self.request_id = request_id
        self.adapter: AdapterKey | None = None
        self.standing: Standing | None = None
        self._on_close = on_close
        self._open_choices = num_choices
        self._pending: list[TokenDelta] = []
        self._error: ServingError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return (
            f"TokenStream({self.request_id}, open_choices={self._open_choices}, "
            f"pending={len(self._pending)}, closed={self._closed})"
        )

    @property
    def closed(self) -> bool:
        """True once the reader has left; what is pushed from then on is dropped."""
        return self._closed

    @property
    def ended(self) -> bool:
        """True once nothing more will arrive, although something may still be unread."""
        return self._closed or self._error is not None or self._open_choices == 0

    @property
    def error(self) -> ServingError | None:
        """What ended the request, where that was an error."""
        return self._error

    def push(self, delta: TokenDelta) -> None:
        """Hand over one delta; ignored after the end."""
        if self.ended:
            return
        if delta.error is not None:
            self.fail(delta.error)
            return
        self._pending.append(delta)
        if delta.finish_reason is not None:
            self._open_choices -= 1
        self._wake()

    def fail(self, error: ServingError) -> None:
        """End the request with `error`; ignored after the end."""
        if not self.ended:
            self._error = error
            self._wake()

    def expire(self, error: ServingError) -> None:
        """End the request with `error` from the reader's side: it is stopped, too."""
        if not self.ended:
            self.fail(error)
            self._tell()

    def close(self) -> None:
        """The reader leaves. Safe to call at any time and more than once."""
        running = not self.ended
        self._closed = True
        self._pending.clear()
        self._wake()
        if running:
            self._tell()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[TokenDelta]:
        while not self._pending:
            if self._error is not None and not self._closed:
                raise self._error
            if self.ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        burst, self._pending = self._pending, []
        return burst

    def _tell(self) -> None:
        if self._on_close is not None:
            self._on_close(self.request_id)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
