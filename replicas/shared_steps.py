"""Groups that are answered in one stream: one message an engine step, however many they are."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

from contracts.generation import StepMessage, StepPart, TokenDelta
from replicas.group import Group

_LOG = logging.getLogger(__name__)
_MAX_MESSAGES = 4096


class SharedSteps:
    """Opened by the first group; others join until it has ended, or has grown old.

    `number` is that of the call whose stream this is. `end` is told of each group that is over.
    All groups must have been made with `wake`.
    """

    def __init__(
        self,
        number: int,
        end: Callable[[Group], Awaitable[None]],
        max_messages: int = _MAX_MESSAGES,
    ) -> None:
        self.number = number
        self.wake = asyncio.Event()
        self._end = end
        self._num_left = max_messages
        self._is_over = False
        self._groups: dict[int, Group] = {}

    @property
    def is_open(self) -> bool:
        """Whether a group may join. A call is not to last for ever, so neither does this."""
        return not self._is_over and self._num_left > 0

    def add(self, number: int, group: Group) -> None:
        """The stream brings this group, too, until it has finished."""
        self._groups[number] = group
        self.wake.set()

    async def messages(self) -> AsyncGenerator[StepMessage]:
        """A message whenever the engine has stepped, until no group is left.

        Closing it ends every request of every group.
        """
        try:
            while self._groups:
                await self.wake.wait()
                self.wake.clear()
                parts = [await self._part(*item) for item in list(self._groups.items())]
                told = tuple(part for part in parts if part.deltas or part.is_last)
                if told:
                    self._num_left -= 1
                    yield StepMessage(told)
        finally:
            self._is_over = True
            async with AsyncExitStack() as left:
                for group in self._groups.values():
                    left.push_async_callback(self._end, group)

    async def _part(self, number: int, group: Group) -> StepPart:
        """One group's share. A fault of ours ends the group, and none of the others."""
        deltas: tuple[TokenDelta, ...] = ()
        try:
            deltas = await group.take()
        except Exception:
            _LOG.exception("a group broke")
        else:
            if not group.finished:
                return StepPart(number, deltas)
        del self._groups[number]
        await self._end(group)
        return StepPart(number, deltas, is_last=True)
