"""Commands of several askers in one round trip: what is asked within one turn of the event loop.

A window's adapters and the quotas of its callers are asked for by parts that do not know each
other; here they become one pipeline, in a cluster one a node.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError

from adapter_cache.redis_connect import RedisClients
from contracts.errors import StoreUnavailable

Command = tuple[str | int, ...]
_Asked = tuple[tuple[Command, ...], "asyncio.Future[list[Any]]"]


class RedisRoundTrip:
    """Pipelines over `clients`, which somebody else closes.

    The client repeats a pipeline that failed: commands must have the same effect when they run
    twice.
    """

    def __init__(self, clients: RedisClients) -> None:
        self._clients = clients
        self._asked: list[_Asked] = []
        self._scripts: dict[str, str] = {}
        self._tasks: set[asyncio.Task[list[Any]]] = set()
        self.num_trips = 0

    def script(self, text: str) -> str:
        """The name under which EVALSHA runs `text`; a server that lacks it is given it."""
        # The name that Redis gives scripts, not a protection of anything.
        name = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._scripts[name] = text
        return name

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The replies to `commands`, in order. Raises StoreUnavailable."""
        if not commands:
            return []
        loop = asyncio.get_running_loop()
        replies: asyncio.Future[list[Any]] = loop.create_future()
        if not self._asked:
            loop.call_soon(self._leave)
        self._asked.append((tuple(commands), replies))
        return await replies

    def __repr__(self) -> str:
        return f"<RedisRoundTrip {self.num_trips} trips, {len(self._tasks)} under way>"

    def _leave(self) -> None:
        asked, self._asked = self._asked, []
        self.num_trips += 1
        task = asyncio.get_running_loop().create_task(self._send(asked))
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._arrive(asked, done))

    def _arrive(self, asked: Sequence[_Asked], trip: "asyncio.Task[list[Any]]") -> None:
        """Give everybody theirs, whatever became of the trip: nobody may wait for it for ever."""
        self._tasks.discard(trip)
        error: BaseException | None
        if trip.cancelled():
            error = StoreUnavailable("the adapter store is closed")
        else:
            error = trip.exception()
        found = iter(trip.result() if error is None else ())
        for commands, replies in asked:
            mine = [next(found) for _ in commands] if error is None else []
            if replies.done():
                continue
            if error is None:
                replies.set_result(mine)
            else:
                replies.set_exception(error)

    async def _send(self, asked: Sequence[_Asked]) -> list[Any]:
        commands = [command for theirs, _ in asked for command in theirs]
        async with self._clients.reading() as redis:
            try:
                pipeline = redis.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*command)
                return await pipeline.execute()
            except NoScriptError:
                pipeline = redis.pipeline(transaction=False)
                for command in commands:
                    pipeline.execute_command(*self._in_full(command))
                return await pipeline.execute()

    def _in_full(self, command: Command) -> Command:
        if command[0] != "EVALSHA":
            return command
        return ("EVAL", self._scripts[str(command[1])], *command[2:])
