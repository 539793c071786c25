"""Replicas of this process that can be killed, hung and added, behind one failover."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from app.failover import Failover
from app.journey import FailoverLimits, Ways
from app.shared_stream import SharedStream
from contracts.errors import EngineFailed
from contracts.generation import GenerateRequest, StepMessage, StreamTicket
from contracts.replica import ReplicaReport
from replicas.echo_engine import EchoEngine
from routing.chooser import ReplicaChooser
from routing.config import RoutingConfig
from routing.members import Members
from tests.replicas.engines import Stack


class Counts:
    def __init__(self) -> None:
        self.num_lost = 0
        self.reasons: list[str] = []

    def placed(self, why: str, number: int) -> None:
        self.reasons += [why] * number

    def lost(self, why: str, number: int) -> None:
        self.num_lost += number


class Cluster:
    """Replicas that can be killed, hung and added; calls to nobody wait for somebody."""

    def __init__(
        self, *names: str, limits: FailoverLimits | None = None, step_s: float = 0.001
    ) -> None:
        self.step_s = step_s
        self.poison = ""
        self.num_poisoned = 0
        self.now_s = 0.0
        self.stacks: dict[str, Stack] = {}
        self.members = Members()
        self.counts = Counts()
        self.cancelled: list[tuple[str, tuple[str, ...]]] = []
        self.calls: dict[str, set[asyncio.Task[None]]] = {}
        self._came = asyncio.Event()
        self.frozen: set[str] = set()
        self.chooser = ReplicaChooser(
            self.members, RoutingConfig(suspect_s=0.0), lambda: self.now_s
        )
        self.stream = SharedStream(self._share, "d", self._heard)
        self.failover = Failover(
            Ways(
                self.stream,
                self.chooser,
                lambda name, ids: self.cancelled.append((name, ids)),
                limits or FailoverLimits(),
                self.counts,
                lambda: self.now_s,
            )
        )
        for name in names:
            self.add(name)

    def _heard(self, name: str, load_tokens: int | None) -> None:
        self.failover.heard(name, load_tokens)

    def add(self, name: str) -> None:
        self.stacks[name] = Stack(EchoEngine(step_s=self.step_s), Path("/nonexistent"))
        self._tell()
        self._came.set()

    def kill(self, name: str, *, is_known: bool = False) -> None:
        """Its streams break; Serve may know of it sooner or later."""
        del self.stacks[name]
        if is_known:
            self._tell()
        for task in self.calls.pop(name, set()):
            task.cancel()

    def _die(self, name: str) -> None:
        """Of a harmful request; another replica comes."""
        if name in self.stacks:
            self.num_poisoned += 1
            self.add(f"{name}'")
            self.kill(name)

    def _tell(self) -> None:
        self.members.tell({name: ReplicaReport(1, 0, 0) for name in self.stacks})

    async def _share(
        self, name: str, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncIterator[StepMessage]:
        if not name:
            while not self.stacks:
                self._came.clear()
                await self._came.wait()
            name = next(iter(self.stacks))
        if name not in self.stacks:
            self._tell()
            raise EngineFailed("The engine was lost.")
        if self.poison in {request.request_id.partition("~")[0] for request in requests}:
            asyncio.get_running_loop().call_later(self.step_s / 4, self._die, name)
        inbox: asyncio.Queue[StepMessage | None] = asyncio.Queue()
        reader = asyncio.create_task(self._read(name, requests, ticket, inbox))
        self.calls.setdefault(name, set()).add(reader)
        reader.add_done_callback(lambda _: inbox.put_nowait(None))
        try:
            while (message := await inbox.get()) is not None:
                if name not in self.frozen:
                    yield message
        finally:
            reader.cancel()
        if reader.cancelled():
            raise EngineFailed("The engine was lost.")

    async def _read(
        self,
        name: str,
        requests: tuple[GenerateRequest, ...],
        ticket: StreamTicket,
        inbox: asyncio.Queue[StepMessage | None],
    ) -> None:
        async for message in self.stacks[name].replica.share(requests, ticket):
            inbox.put_nowait(message)
