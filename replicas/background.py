"""Work beside the requests: whatever fails in it is logged, and none outlives its owner."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import ParamSpec

from contracts.errors import ServingError

_LOG = logging.getLogger(__name__)

P = ParamSpec("P")


class Background:
    """Tasks of one owner, whose failures are logged as the failure of `what`."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._tasks: set[asyncio.Task[bool]] = set()

    def spawn(self, step: Callable[P, Awaitable[object]], *args: P.args, **kw: P.kwargs) -> None:
        """Have `step` run in a task of its own."""
        task = asyncio.create_task(self.attempt(step, *args, **kw))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def attempt(
        self, step: Callable[P, Awaitable[object]], *args: P.args, **kw: P.kwargs
    ) -> bool:
        """Run `step`; False when it failed."""
        try:
            await step(*args, **kw)
        except (ServingError, OSError) as error:  # TimeoutError is an OSError
            _LOG.warning("%s failed: %s", self._what, str(error) or type(error).__name__)
        except Exception:
            _LOG.exception("%s failed", self._what)
        else:
            return True
        return False

    async def stop(self) -> None:
        """Cancel what runs, and wait until it has ended."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __repr__(self) -> str:
        return f"<Background {self._what!r}, {len(self._tasks)} tasks>"
