"""The way into an engine: requests wait here in fair order, so that none waits long inside.

Knows nothing of adapters, engines or tokens' meaning.
"""

import asyncio
from collections.abc import Callable
from time import monotonic

from contracts.errors import Overloaded
from contracts.generation import GenerateRequest
from replicas.fair_limits import FairLimits
from replicas.fair_queue import FairQueue
from replicas.queue_metrics import QueueMetrics


class Pass:
    """One request's way through the gate, from its arrival to its end. `leave` it at the end.

    `priority` orders it among those in the engine once it is in: lower first.
    """

    def __init__(self, gate: "FairGate", request: GenerateRequest, came_s: float) -> None:
        self.id = 0
        self.tenant = request.tenant
        self.priority = 0
        self.is_in = False
        self._gate = gate
        self.came_s = came_s
        self._turn: asyncio.Future[None] | None = None
        self._error: Overloaded | None = None

    async def turn(self) -> None:
        """Wait until the request may enter. Raises Overloaded when it has to make room instead."""
        if self._error is not None:
            raise self._error
        if not self.is_in:
            self._turn = asyncio.get_running_loop().create_future()
            await self._turn

    def charge(self, num_tokens: int) -> None:
        """The engine has brought tokens."""
        self._gate.charge(self, num_tokens)

    def leave(self) -> None:
        """The request has ended, wherever it was. Once is enough."""
        self._gate.leave(self)

    def enter(self, priority: int, now_s: float) -> float:
        """It may enter; how long it waited in seconds."""
        self.priority, self.is_in = priority, True
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)
        return now_s - self.came_s

    def refuse(self, error: Overloaded) -> None:
        """It never may."""
        self._error = error
        if self._turn is not None and not self._turn.done():
            self._turn.set_exception(error)


class FairGate:
    """Lets as many requests into the engine as keep it full, by FairQueue. `clock` gives seconds.

    Nothing here waits but `Pass.turn`, and an engine with room costs a request some microseconds.
    """

    def __init__(
        self,
        limits: FairLimits,
        metrics: QueueMetrics | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._queue = FairQueue(limits)
        self._passes: dict[int, Pass] = {}
        self._metrics = metrics or QueueMetrics()
        self._clock = clock

    def require_room(self, request: GenerateRequest) -> None:
        """Raises Overloaded when the request would be refused now: before anything is fetched."""
        if self._queue.is_full_for(request.tenant):
            raise self._refused()

    def ask(self, request: GenerateRequest) -> Pass:
        """A pass for a request; `is_in` if it may enter at once."""
        new = Pass(self, request, self._clock())
        new.id, shed = self._queue.add(
            request.tenant,
            request.weight,
            request.sampling.n,
            request.num_input_tokens,
            new.came_s,
        )
        if shed != new.id:
            self._passes[new.id] = new
        if shed is not None:
            self._passes.pop(shed, new).refuse(self._refused())
        self._let_in()
        return new

    def charge(self, passed: Pass, num_tokens: int) -> None:
        """See Pass.charge."""
        if passed.id not in self._passes or not num_tokens:
            return
        self._metrics.tokens.add(passed.tenant, num_tokens)
        if self._queue.charge(passed.id, num_tokens):
            self._let_in()

    def leave(self, passed: Pass) -> None:
        """See Pass.leave."""
        if self._passes.pop(passed.id, None) is not None:
            self._queue.leave(passed.id, self._clock())
            self._let_in()

    def __repr__(self) -> str:
        return f"<FairGate {self._queue!r}>"

    def _let_in(self) -> None:
        queue = self._queue
        while queue.num_waiting and (picked := queue.pick(self._clock())) is not None:
            request_id, priority = picked
            waited_s = self._passes[request_id].enter(priority, self._clock())
            self._metrics.waited_s.observe(waited_s)
        self._metrics.waiting.set(queue.num_waiting)
        self._metrics.running_seqs.set(queue.num_running_seqs)

    def _refused(self) -> Overloaded:
        self._metrics.refused.inc()
        return Overloaded("The queue of the replica is full; try again later.")
