"""Every group of a door has its tokens from as few calls as possible: replicas merge the streams.

generate(group 1) --> call 1 --> messages with parts for groups 1, 2, 3
generate(group 2) --> call 2 --> "joined 1", and nothing more
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from itertools import count

from contracts.errors import EngineFailed, ServingError
from contracts.generation import (
    GenerateRequest,
    StepMessage,
    StepPart,
    StreamTicket,
    TokenBatch,
)

_LOG = logging.getLogger(__name__)
_LOST = "The engine ended without finishing the request."

Call = Callable[[tuple[GenerateRequest, ...], StreamTicket], AsyncIterator[StepMessage]]
"""Replica.share, wherever the replica is. Raises ServingError."""


class SharedStream:
    """Takes the messages of `call` apart again: each group hears of its own steps alone.

    `door` tells this process from others. Without `shares` every group has a stream of its own.
    `on_message` is called for each message of a replica.
    """

    def __init__(
        self,
        call: Call,
        door: str,
        *,
        shares: bool = True,
        on_message: Callable[[], object] = lambda: None,
    ) -> None:
        self._call = call
        self._door = door
        self._shares = shares
        self._on_message = on_message
        self._numbers = count()
        self._inboxes: dict[int, asyncio.Queue[StepPart | ServingError]] = {}
        self._carried: dict[int, set[int]] = {}
        self._readers: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<SharedStream {len(self._inboxes)} groups in {len(self._carried)} calls>"

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        """See Dispatcher."""
        number = next(self._numbers)
        inbox = self._inboxes[number] = asyncio.Queue()
        # The stream of this group may bring others, and outlive it.
        reader = asyncio.create_task(self._read(number, requests), context=Context())
        self._readers.add(reader)
        reader.add_done_callback(self._readers.discard)
        try:
            is_last = False
            while not is_last:
                part = await inbox.get()
                if isinstance(part, ServingError):
                    raise part
                is_last = part.is_last
                if part.deltas:
                    yield TokenBatch(part.deltas)
        finally:
            del self._inboxes[number]

    async def aclose(self) -> None:
        """Listen to no replica any more."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _read(self, number: int, requests: tuple[GenerateRequest, ...]) -> None:
        carried = self._carried[number] = {number}
        error: ServingError = EngineFailed(_LOST)
        door = self._door if self._shares else f"{self._door} {number}"
        try:
            async for message in self._call(requests, StreamTicket(door, number)):
                self._on_message()
                self._take(message, number)
        except ServingError as failure:
            error = failure
        except Exception:
            _LOG.exception("a stream broke")
            error = EngineFailed("The engine failed.")
        finally:
            del self._carried[number]
            for group in carried:
                self._tell(group, error)

    def _take(self, message: StepMessage, number: int) -> None:
        for part in message.parts:
            self._tell(part.number, part)
            if part.is_last:
                self._carried[number].discard(part.number)
        if message.joined is not None:
            self._carried[number].discard(number)
            if (carrier := self._carried.get(message.joined)) is not None:
                carrier.add(number)
            else:
                # Its tokens came before this, or never will.
                self._tell(number, EngineFailed(_LOST))

    def _tell(self, number: int, news: StepPart | ServingError) -> None:
        if (inbox := self._inboxes.get(number)) is not None:
            inbox.put_nowait(news)
