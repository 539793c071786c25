"""Groups that are answered in one stream: one message an engine step, however many they are."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack

from contracts.generation import StepMessage, StepPart, TokenDelta
from replicas.group import Group

_LOG = logging.getLogger(__name__)
_MAX_MESSAGES = 4096
_BEAT_S = 2.0


class SharedSteps:
    """Opened by the first group; others join until it has ended, or has grown old.

    `number` is that of the call whose stream this is. `end` is told of each group that is over.
    All groups must have been made with `wake`. A reader hears something every `beat_s` while
    `is_alive` says that the engine moves: a stream that is silent for long hangs. `load_tokens`
    is what the replica has to do, told with each message.
    """

    def __init__(
        self,
        number: int,
        end: Callable[[Group], Awaitable[None]],
        max_messages: int = _MAX_MESSAGES,
        *,
        is_alive: Callable[[], bool] = lambda: True,
        load_tokens: Callable[[], int | None] = lambda: None,
        beat_s: float = _BEAT_S,
    ) -> None:
        self.number = number
        self.wake = asyncio.Event()
        self._end = end
        self._is_alive = is_alive
        self._load_tokens = load_tokens
        self._beat_s = beat_s
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
                if not await self._is_woken():
                    if self._is_alive():
                        yield StepMessage(load_tokens=self._load_tokens())
                    continue
                self.wake.clear()
                parts = [await self._part(*item) for item in list(self._groups.items())]
                told = tuple(part for part in parts if part.deltas or part.is_last)
                if told:
                    self._num_left -= 1
                    yield StepMessage(told, load_tokens=self._load_tokens())
        finally:
            self._is_over = True
            async with AsyncExitStack() as left:
                for group in self._groups.values():
                    left.push_async_callback(self._end, group)

    async def _is_woken(self) -> bool:
        """Waits for news; False where none have come for a beat."""
        if self.wake.is_set():
            return True
        try:
            async with asyncio.timeout(self._beat_s):
                return await self.wake.wait()
        except TimeoutError:
            return False

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
