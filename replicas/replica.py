"""One engine fed from the adapter cache: a group of requests in, one message an engine step out."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from adapter_cache.fetcher import AdapterFetcher
from contracts.adapters import AdapterKey
from contracts.errors import NotReady
from contracts.generation import GenerateRequest, StepMessage, StreamTicket, TokenBatch
from contracts.replica import ReplicaInfo, ReplicaReport, SlotReport
from contracts.tracing import NO_TRACER, Tracer
from replicas.companion import Companion
from replicas.engine import Engine
from replicas.fair_gate import FairGate
from replicas.fair_limits import FairLimits
from replicas.group import Group
from replicas.lora_seats import LoraSeats
from replicas.pulse import Pulse
from replicas.residents import Residents
from replicas.shared_steps import SharedSteps


class Replica:
    """Fetches what a request needs, holds it while the request lives, sends its tokens back.

    Knows no Ray, no Redis and no vLLM: `engine` and `fetcher` do. `companions` start in their
    order once the engine runs, and stop before it. `gate` decides which requests enter the engine,
    `seats` which LoRA adapters may be there at a time (None: all).
    """

    def __init__(
        self,
        engine: Engine,
        fetcher: AdapterFetcher,
        companions: Sequence[Companion] = (),
        gate: FairGate | None = None,
        tracer: Tracer = NO_TRACER,
        residents: Residents | None = None,
        seats: LoraSeats | None = None,
    ) -> None:
        self._seats = seats
        self._residents = residents
        self._pulse = Pulse()
        self._num_reports = 0
        self._engine = engine
        self._gate = gate or FairGate(FairLimits())
        self._fetcher = fetcher
        self._companions = companions
        self._tracer = tracer
        self._info: ReplicaInfo | None = None
        self._groups: set[Group] = set()
        self._shared: dict[str, SharedSteps] = {}

    async def start(self) -> ReplicaInfo:
        """Load the model and let the companions begin. Raises EngineFailed."""
        info = await self._engine.start()
        for companion in self._companions:
            await companion.start()
        self._info = info
        return info

    async def describe(self) -> ReplicaInfo:
        if self._info is None:
            raise NotReady("The engine has not started.")
        return self._info

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncGenerator[TokenBatch]:
        """The group's tokens, a TokenBatch whenever the engine has stepped, until all are done.

        A request that fails has a delta with its error; the others go on. Requests whose adapter is
        on the node start at once, those that must fetch join when it has come. Closing the iterator
        ends every request of the group.
        """
        steps = self._steps(0)
        steps.add(0, self._begin(requests, steps))
        messages = steps.messages()
        try:
            async for message in messages:
                for part in message.parts:
                    if part.deltas:
                        yield TokenBatch(part.deltas)
        finally:
            await messages.aclose()

    async def share(
        self, requests: tuple[GenerateRequest, ...], ticket: StreamTicket
    ) -> AsyncGenerator[StepMessage]:
        """`generate` for a door: while one of its calls lasts, further groups come through that.

        The call of such a group ends at once and says whose stream brings its tokens. Closing the
        stream that others have joined ends theirs, too.
        """
        steps = self._shared.get(ticket.door)
        if steps is not None and steps.is_open:
            steps.add(ticket.number, self._begin(requests, steps))
            yield StepMessage(joined=steps.number, load_tokens=self.load_tokens)
            return
        steps = self._shared[ticket.door] = self._steps(ticket.number)
        steps.add(ticket.number, self._begin(requests, steps))
        messages = steps.messages()
        try:
            async for message in messages:
                yield message
        finally:
            await messages.aclose()
            if self._shared.get(ticket.door) is steps:
                del self._shared[ticket.door]

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        """Stop working on requests; ids that are not running here are ignored."""
        for group in list(self._groups):
            await group.cancel(request_ids)
        for request_id in request_ids:
            await self._engine.abort(request_id)

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        """Bring adapters to the node before somebody asks. Failures are left to whoever asks."""
        fetches = (self._fetcher.ensure(key) for key in keys if not key.is_base)
        await asyncio.gather(*fetches, return_exceptions=True)

    @property
    def load_tokens(self) -> int:
        """What is left to do of all requests that are here."""
        return sum(group.num_tokens_left for group in self._groups)

    async def report(self) -> ReplicaReport:
        """What those who choose among replicas want to know. Cheap enough for every second."""
        self._num_reports += 1
        return ReplicaReport(
            self._num_reports,
            self.load_tokens,
            sum(group.num_running for group in self._groups),
            await self._residents.words() if self._residents else (),
        )

    async def check(self) -> None:
        await self._engine.check()

    async def slots(self) -> SlotReport:
        """How the engine's device slots are used. Raises EngineFailed."""
        report = await self._engine.slots()
        if report.lora is None or self._seats is None:
            return report
        return replace(report, lora=replace(report.lora, waiting=self._seats.num_waiting))

    async def stop(self) -> None:
        """End everything; the engine whatever happens to the rest."""
        try:
            for companion in reversed(self._companions):
                await companion.stop()
            await self._fetcher.close()
        finally:
            await self._engine.stop()

    def _steps(self, number: int) -> SharedSteps:
        return SharedSteps(
            number, self._end, is_alive=self._is_alive, load_tokens=lambda: self.load_tokens
        )

    def _is_alive(self) -> bool:
        return self._pulse.is_alive(sum(group.num_running for group in self._groups))

    def _begin(self, requests: tuple[GenerateRequest, ...], steps: SharedSteps) -> Group:
        group = Group(
            self._engine,
            self._gate,
            self._fetcher,
            self._companions,
            requests,
            steps.wake,
            self._tracer,
            self._pulse,
            self._seats,
        )
        self._groups.add(group)
        return group

    async def _end(self, group: Group) -> None:
        self._groups.discard(group)
        await group.close()
