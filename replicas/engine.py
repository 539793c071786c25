"""What a replica asks of an engine."""

import asyncio
from pathlib import Path
from typing import Protocol

from contracts.adapters import Digest
from contracts.generation import GenerateRequest, TokenDelta
from contracts.replica import ReplicaInfo, SlotReport


class TokenSource(Protocol):
    """The tokens of one request as they come. `finished` is true once the last was drained."""

    finished: bool

    def drain(self, index: int) -> list[TokenDelta]:
        """What came since the last call, addressed to place `index` of a group; never waits.

        Raises ServingError when the request failed; it is finished then.
        """
        ...


class Engine(Protocol):
    """A running model that takes a different adapter with every request."""

    async def start(self) -> ReplicaInfo:
        """Load the model; what it can do. Raises EngineFailed."""
        ...

    async def submit(
        self,
        request: GenerateRequest,
        row: Path | None,
        wake: asyncio.Event,
        priority: int = 0,
    ) -> TokenSource:
        """Queue a request with the row file of its adapter (None: the base model).

        Where the engine can't run all that it has, the lower `priority` goes first.

        `wake` is set whenever the source may have something to drain; sources may share one. The
        file must stay until the source is finished. Raises ServingError; others are not disturbed.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """Stop working on a request; unknown ids are ignored. Its source finishes with "abort"."""
        ...

    async def release(self, digest: Digest) -> bool:
        """Free the device slot of an adapter that no running request here uses; True if it had one.

        Nothing happens to one that is in use or unknown. It may come back: it is loaded again then.
        Raises EngineFailed.
        """
        ...

    async def slots(self) -> SlotReport:
        """How the device slots are used. Raises EngineFailed."""
        ...

    async def check(self) -> None:
        """Raises EngineFailed when the engine is beyond repair."""
        ...

    async def stop(self) -> None:
        """End the engine and its processes."""
        ...
