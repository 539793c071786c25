"""Structures are compiled in a process of their own first, so that a bad one ends nobody's answer.

A grammar can make its compiler run for hours, take all memory or crash; inside of the engine it
would take every request with it. Knows nothing of the compiler: `vllm_grammar_worker.py` has it.
"""

import asyncio
import contextlib
import hashlib
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import orjson

from app.structure import MAX_SPEC_BYTES, require_bounded
from contracts.adapters import TenantId
from contracts.errors import InvalidRequest, NotReady, Overloaded
from contracts.generation import Structure

_LOG = logging.getLogger(__name__)
_MAX_VERDICTS = 1024
_MAX_LINE_BYTES = 8 * MAX_SPEC_BYTES


@dataclass(slots=True)
class _Waiting:
    """One tenant's structures that have no verdict yet, and whose turn it is among them."""

    flights: dict[bytes, asyncio.Task[str | None]] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


def worker_command(model: str, timeout_s: float) -> tuple[str, ...]:
    """The program that judges structures for the vocabulary of `model`, each in `timeout_s`.

    It makes way for engines and doors.
    """
    return (
        "nice",
        "-n",
        "10",
        sys.executable,
        "-m",
        "app.vllm_grammar_worker",
        model,
        str(timeout_s),
    )


class GrammarJudge:
    """The GrammarCheck over one worker process, one structure at a time.

    The worker refuses what takes it longer than `timeout_s`. One that is silent for `grace_s` more,
    or that ends, is started again. Verdicts are kept by the structure's digest. At most
    `max_waiting` of a tenant wait, one of them for the worker: tenants take turns.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        timeout_s: float = 2.0,
        grace_s: float = 5.0,
        start_timeout_s: float = 60.0,
        max_waiting: int = 16,
    ) -> None:
        self._command = command
        self._timeout_s = timeout_s
        self._grace_s = grace_s
        self._start_timeout_s = start_timeout_s
        self._max_waiting = max_waiting
        self._verdicts: OrderedDict[bytes, str | None] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting: dict[TenantId, _Waiting] = {}
        self._worker: Process | None = None
        self._starting: asyncio.Task[Process] | None = None

    def __repr__(self) -> str:
        return f"GrammarJudge(verdicts={len(self._verdicts)}, tenants={len(self._waiting)})"

    def start(self) -> None:
        """Begin to start the worker; nobody waits for it yet."""
        if self._starting is None:
            self._starting = asyncio.ensure_future(self._start())

    async def require(self, structure: Structure, param: str, tenant: TenantId) -> None:
        """See GrammarCheck."""
        require_bounded(structure, param)
        verdict = await self._verdict(structure, tenant)
        if verdict is not None:
            raise InvalidRequest(f"'{param}' cannot be kept to: {verdict}", param)

    async def aclose(self) -> None:
        """See GrammarCheck."""
        flights = [f for waiting in self._waiting.values() for f in waiting.flights.values()]
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        await self._end_worker()

    async def _verdict(self, structure: Structure, tenant: TenantId) -> str | None:
        name = hashlib.sha256(f"{structure.kind}\n{structure.spec}".encode()).digest()
        if name in self._verdicts:
            self._verdicts.move_to_end(name)
            return self._verdicts[name]
        waiting = self._waiting.setdefault(tenant, _Waiting())
        flight = waiting.flights.get(name)
        if flight is None:
            if len(waiting.flights) >= self._max_waiting:
                raise Overloaded("Too many structured outputs are being prepared.")
            flight = asyncio.create_task(self._judge_in_turn(name, structure, waiting))
            waiting.flights[name] = flight
            flight.add_done_callback(lambda done: self._land(tenant, name, done))
        return await asyncio.shield(flight)

    async def _judge_in_turn(
        self, name: bytes, structure: Structure, waiting: _Waiting
    ) -> str | None:
        async with waiting.turn, self._turn:
            if name not in self._verdicts:
                self._keep(name, await self._judge(structure))
            return self._verdicts[name]

    def _land(self, tenant: TenantId, name: bytes, flight: asyncio.Task[str | None]) -> None:
        waiting = self._waiting[tenant]
        del waiting.flights[name]
        if not waiting.flights:
            del self._waiting[tenant]
        # Looked at, so that asyncio does not report a failure whose callers all left.
        if not flight.cancelled():
            flight.exception()

    def _keep(self, name: bytes, verdict: str | None) -> None:
        self._verdicts[name] = verdict
        if len(self._verdicts) > _MAX_VERDICTS:
            self._verdicts.popitem(last=False)

    async def _judge(self, structure: Structure) -> str | None:
        worker = await self._ready()
        settled = False
        try:
            async with asyncio.timeout(self._timeout_s + self._grace_s):
                answer = await _ask(worker, orjson.dumps(asdict(structure)))
            settled = answer is not None
        except TimeoutError:
            return f"it is not compiled within {self._timeout_s:g} s"
        finally:
            if not settled:
                # Also where the caller left: the next one must not read this answer.
                self._starting = None
                await asyncio.shield(self._end_worker())
        if answer is None:
            return "its compiler failed"
        error: str | None = orjson.loads(answer)["error"]
        return error

    async def _ready(self) -> Process:
        self.start()
        assert self._starting is not None
        try:
            return await asyncio.shield(self._starting)
        except (OSError, TimeoutError, EOFError) as error:
            self._starting = None
            _LOG.warning("the grammar compiler did not start: %s", type(error).__name__)
            raise NotReady("Structured output is not ready.") from error

    async def _start(self) -> Process:
        self._worker = worker = await asyncio.create_subprocess_exec(
            *self._command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, limit=_MAX_LINE_BYTES
        )
        assert worker.stdout is not None
        async with asyncio.timeout(self._start_timeout_s):
            if not await worker.stdout.readline():
                raise EOFError
        return worker

    async def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()


async def _ask(worker: Process, line: bytes) -> bytes | None:
    """The worker's answer; None where it has ended instead."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(line + b"\n")
        await worker.stdin.drain()
        return await worker.stdout.readline() or None
    except (ConnectionError, ValueError):
        return None
