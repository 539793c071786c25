"""Notices that the registry was emptied, and has it rebuilt from the object store.

A registry that has lost its names would answer "no such adapter" for adapters that exist. So a
marker lies beside them, in the same server, and goes when they go: only while it is there does an
unknown name mean that there is no such adapter.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from contracts.errors import NotReady, ServingError

_LOG = logging.getLogger(__name__)


class RegistryMarker(Protocol):
    """The sign beside the registry that it is complete. Every method may raise StoreUnavailable."""

    async def is_whole(self) -> bool:
        """Whether the registry is complete, in one read."""
        ...

    async def begin(self, token: str) -> str:
        """A rebuild begins: gives `token`, or that of the rebuild that is under way already, to
        be joined. "" when the registry is complete.
        """
        ...

    async def finish(self, token: str) -> bool:
        """All was recorded since `begin` gave `token`: the registry is complete.

        False, and nothing changed, where the registry was emptied meanwhile.
        """
        ...


class Guard(Protocol):
    """What a reader of the registry asks before it says "no such adapter"."""

    async def require_whole(self) -> None:
        """Raises NotReady while names may be missing, StoreUnavailable when nobody can say."""
        ...


class AlwaysWhole:
    """The Guard of a registry that cannot lose anything."""

    async def require_whole(self) -> None:
        return None


class MarkerGuard:
    """The Guard of a process that reads the marker and leaves the rebuild to others."""

    def __init__(self, marker: RegistryMarker) -> None:
        self._marker = marker

    async def require_whole(self) -> None:
        if not await self._marker.is_whole():
            raise NotReady("The adapter registry is being rebuilt.")


class RegistryGuard:
    """Looks at the marker every `check_s` seconds, and rebuilds when it is gone.

    Each process of a system may have one: those that rebuild at the same time do the same twice,
    which changes nothing, and none depends on another's staying alive.
    """

    def __init__(
        self,
        marker: RegistryMarker,
        rebuild: Callable[[], Awaitable[object]],
        *,
        new_token: Callable[[], str],
        check_s: float = 2.0,
    ) -> None:
        self._marker = marker
        self._rebuild = rebuild
        self._new_token = new_token
        self._check_s = check_s
        self._missed = asyncio.Event()

    async def require_whole(self) -> None:
        """See Guard. A marker that is found missing here is acted on at once."""
        try:
            await MarkerGuard(self._marker).require_whole()
        except NotReady:
            self._missed.set()
            raise

    async def check(self) -> bool:
        """Rebuild where the marker is gone; True when the registry is complete.

        Raises what the rebuild raises.
        """
        token = await self._marker.begin(self._new_token())
        if not token:
            return True
        _LOG.warning("the adapter registry is empty or incomplete: rebuilding it")
        report = await self._rebuild()
        whole = await self._marker.finish(token)
        _LOG.warning("adapter registry rebuilt: %s%s", report, "" if whole else "; emptied again")
        return whole

    async def run(self) -> None:
        """Check for ever. A failure is logged and tried again `check_s` later."""
        while True:
            if await self._try():
                await self._wait()
            else:
                await asyncio.sleep(self._check_s)

    async def _try(self) -> bool:
        try:
            return await self.check()
        except ServingError as error:
            _LOG.warning("the adapter registry could not be checked: %s", error)
        except Exception:
            _LOG.exception("the adapter registry could not be rebuilt")
        return False

    async def _wait(self) -> None:
        """Until the next check is due or somebody has missed the marker."""
        try:
            async with asyncio.timeout(self._check_s):
                await self._missed.wait()
        except TimeoutError:
            return
        finally:
            self._missed.clear()


class MemoryMarker:
    """RegistryMarker in one process, for tests; `wipe` is the registry's server being emptied."""

    def __init__(self) -> None:
        self._state = ""

    async def is_whole(self) -> bool:
        return self._state.startswith("whole:")

    async def begin(self, token: str) -> str:
        if await self.is_whole():
            return ""
        self._state = self._state or f"rebuilding:{token}"
        return self._state.removeprefix("rebuilding:")

    async def finish(self, token: str) -> bool:
        if self._state.partition(":")[2] != token:
            return False
        self._state = f"whole:{token}"
        return True

    def wipe(self) -> None:
        """Lose the marker."""
        self._state = ""
