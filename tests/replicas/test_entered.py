"""A group says which of its requests the engine has, before their first tokens."""

import asyncio
from pathlib import Path

from contracts.adapters import BASE
from contracts.errors import InvalidRequest
from contracts.generation import GenerateRequest, TokenBatch, TokenDelta
from replicas.echo_engine import EchoSource
from tests.replicas.engines import Stack, SteppedEngine, make_group, turns


class GatedEngine(SteppedEngine):
    """A submit returns when the event of its request is set, if there is one."""

    def __init__(self) -> None:
        super().__init__()
        self.gates: dict[str, asyncio.Event] = {}

    async def submit(
        self,
        request: GenerateRequest,
        row: Path | None,
        wake: asyncio.Event,
        priority: int = 0,
    ) -> EchoSource:
        source = await super().submit(request, row, wake, priority)
        if request.request_id in self.gates:
            await self.gates[request.request_id].wait()
        return source


class Reader:
    """Reads a group in a task of its own."""

    def __init__(self, stack: Stack, requests: tuple[GenerateRequest, ...]) -> None:
        self.batches: list[TokenBatch] = []
        self.task = asyncio.create_task(self._read(stack, requests))

    async def _read(self, stack: Stack, requests: tuple[GenerateRequest, ...]) -> None:
        async for batch in stack.replica.generate(requests):
            self.batches.append(batch)


def entered(*indices: int) -> TokenBatch:
    return TokenBatch(tuple(TokenDelta(index, entered=True) for index in indices))


async def test_all_who_enter_together_are_told_in_one_message(
    stepped: Stack, engine: SteppedEngine
) -> None:
    reader = Reader(stepped, make_group(BASE, BASE, BASE))
    await turns()
    assert reader.batches == [entered(0, 1, 2)]
    engine.step(1, "stop")
    await reader.task
    assert [len(batch.deltas) for batch in reader.batches] == [3, 3]
    assert not any(delta.entered for delta in reader.batches[1].deltas)


async def test_who_enters_at_once_waits_for_the_one_behind(tmp_path: Path) -> None:
    engine = GatedEngine()
    stack = Stack(engine, tmp_path)
    gate = engine.gates["1"] = asyncio.Event()
    reader = Reader(stack, make_group(BASE, BASE))
    await turns()
    assert reader.batches == []
    gate.set()
    await turns()
    assert reader.batches == [entered(0, 1)]
    engine.step(1, "stop")
    await reader.task
    await stack.close()


async def test_tokens_bring_it_along(tmp_path: Path) -> None:
    engine = GatedEngine()
    stack = Stack(engine, tmp_path)
    gate = engine.gates["1"] = asyncio.Event()
    reader = Reader(stack, make_group(BASE, BASE))
    await turns()
    engine.step(5)
    await turns()
    first = (TokenDelta(0, entered=True), TokenDelta(0, token_ids=(5,)))
    assert reader.batches == [TokenBatch(first)]
    gate.set()
    await turns()
    second = (TokenDelta(1, entered=True), TokenDelta(1, token_ids=(5,)))
    assert reader.batches[1:] == [TokenBatch(second)]
    engine.step(6, "stop")
    await reader.task
    await stack.close()


async def test_who_never_enters_is_not_told_to_have(stepped: Stack, engine: SteppedEngine) -> None:
    slow = await stepped.publish("slow")
    event = stepped.store.held[slow.digest]
    engine.refusals = {"1": InvalidRequest("no such thing")}
    reader = Reader(stepped, make_group(slow, BASE, BASE))
    await turns()
    told = [d.index for batch in reader.batches for d in batch.deltas if d.entered]
    assert told == [2]
    event.set()
    await engine.submitted["0"].wait()
    await turns()
    assert reader.batches[-1] == entered(0)
    engine.step(1, "stop")
    await reader.task
