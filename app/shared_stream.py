"""Every group of a door has its tokens from as few calls as possible: replicas merge the streams.

begin(group 1) --> call 1 --> messages with parts for groups 1, 2, 3
begin(group 2) --> call 2 --> "joined 1", and nothing more

Calls are numbered over all replicas, so it does not matter which of them a message comes from.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from itertools import count

from contracts.errors import EngineFailed, ServingError
from contracts.generation import GenerateRequest, StepMessage, StepPart, StreamTicket

_LOG = logging.getLogger(__name__)
_LOST = "The engine ended without finishing the request."

Call = Callable[[str, tuple[GenerateRequest, ...], StreamTicket], AsyncIterator[StepMessage]]
"""Replica.share of the replica with that id, wherever it is. Raises ServingError."""
Tell = Callable[[StepPart | ServingError], None]
"""Hears each part of one group, and what ended it if that was not its last part."""


class SharedStream:
    """Takes the messages of `call` apart again: each group hears of its own steps alone.

    `door` tells this process from others. `on_message` is called with the replica's id and what it
    has to do, where it says so, after each of its messages.
    """

    def __init__(
        self,
        call: Call,
        door: str,
        on_message: Callable[[str, int | None], object] = lambda _, load: None,
    ) -> None:
        self._call = call
        self._door = door
        self._on_message = on_message
        self._numbers = count()
        self._listeners: dict[int, Tell] = {}
        self._carried: dict[int, set[int]] = {}
        self._readers: dict[int, asyncio.Task[None]] = {}

    def __repr__(self) -> str:
        return f"<SharedStream {len(self._listeners)} groups in {len(self._carried)} calls>"

    def begin(self, replica_id: str, requests: tuple[GenerateRequest, ...], tell: Tell) -> int:
        """Send a group to a replica ("": to any); the number to `end` it by."""
        number = next(self._numbers)
        self._listeners[number] = tell
        # The stream of this group may bring others, and outlive it.
        reader = asyncio.get_running_loop().create_task(
            self._read(number, replica_id, requests), context=Context()
        )
        self._readers[number] = reader
        reader.add_done_callback(lambda _: self._readers.pop(number, None))
        return number

    def end(self, number: int) -> None:
        """Listen no more to a group; its call goes on for others."""
        self._listeners.pop(number, None)

    def take_back(self, number: int) -> None:
        """End a group that no replica has taken yet."""
        self.end(number)
        if (reader := self._readers.get(number)) is not None:
            reader.cancel()

    async def aclose(self) -> None:
        """Listen to no replica any more."""
        readers = list(self._readers.values())
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)

    async def _read(
        self, number: int, replica_id: str, requests: tuple[GenerateRequest, ...]
    ) -> None:
        carried = self._carried[number] = {number}
        error: ServingError = EngineFailed(_LOST)
        try:
            ticket = StreamTicket(self._door, number)
            async for message in self._call(replica_id, requests, ticket):
                self._take(message, number)
                self._on_message(replica_id, message.load_tokens)
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
        if (tell := self._listeners.get(number)) is not None:
            tell(news)
