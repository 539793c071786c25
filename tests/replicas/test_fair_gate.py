"""The gate alone, and a replica behind it whose engine runs when a test says so."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest
from prometheus_client import CollectorRegistry

from contracts.adapters import BASE, TenantId
from contracts.errors import Overloaded
from contracts.generation import GenerateRequest, Sampling, TokenBatch, TokenDelta
from replicas.echo_engine import EchoEngine
from replicas.fair_gate import FairGate
from replicas.fair_limits import FairLimits
from replicas.queue_metrics import QueueMetrics
from replicas.replica import Replica
from tests.replicas.engines import Stack, SteppedEngine, collect, make_group, turns, until

SMALL = FairLimits(max_num_seqs=2, reserved_seqs=0, max_waiting=3)


def make_request(
    name: str, tenant: str = "ada", n: int = 1, max_tokens: int = 4
) -> GenerateRequest:
    return GenerateRequest(name, BASE, (7, 8), Sampling(max_tokens, n=n), TenantId(tenant))


@pytest.fixture
async def gated(engine: SteppedEngine, tmp_path: Path) -> AsyncIterator[Stack]:
    stack = Stack(engine, tmp_path)
    stack.replica = Replica(engine, stack.fetcher, gate=FairGate(SMALL))
    yield stack
    await stack.close()


async def test_an_engine_with_room_is_entered_at_once() -> None:
    gate = FairGate(FairLimits())
    passed = gate.ask(make_request("r"))
    assert passed.is_in
    # Nothing to wait for: the coroutine ends without giving up its turn.
    with pytest.raises(StopIteration):
        passed.turn().send(None)
    passed.leave()
    passed.leave()
    assert "0 waiting, 0 sequences" in repr(gate)


async def test_a_pass_through_an_open_gate_takes_microseconds() -> None:
    gate, request = FairGate(FairLimits()), make_request("r")
    best_s = float("inf")
    for _ in range(20):
        started_s = perf_counter()
        for _ in range(100):
            passed = gate.ask(request)
            passed.charge(1)
            passed.leave()
        best_s = min(best_s, (perf_counter() - started_s) / 100)
    assert best_s < 0.0005


async def test_who_waits_enters_when_another_leaves() -> None:
    now_s = [0.0]
    metrics = QueueMetrics(CollectorRegistry())
    gate = FairGate(SMALL, metrics, lambda: now_s[0])
    first, second, third = (gate.ask(make_request(name)) for name in "abc")
    assert (first.is_in, second.is_in, third.is_in) == (True, True, False)
    waiting = asyncio.create_task(third.turn())
    await turns()
    now_s[0] = 3.0
    first.leave()
    await waiting
    assert third.is_in
    assert metrics.waited_s._sum.get() == 3.0


async def test_a_full_queue_refuses_the_longest() -> None:
    gate = FairGate(SMALL)
    for name in "ab":
        assert gate.ask(make_request(name)).is_in
    crowd = [gate.ask(make_request(name)) for name in "cde"]
    waits = [asyncio.create_task(p.turn()) for p in crowd]
    await turns()
    with pytest.raises(Overloaded):
        gate.require_room(make_request("f"))
    with pytest.raises(Overloaded):
        await gate.ask(make_request("f")).turn()
    gate.require_room(make_request("g", "bob"))
    newcomer = gate.ask(make_request("g", "bob"))
    with pytest.raises(Overloaded):
        await waits[2]
    crowd[2].leave()
    assert "3 waiting" in repr(gate)
    for passed in (*crowd, newcomer):
        passed.leave()
    await asyncio.sleep(0)
    for wait in waits[:2]:
        wait.cancel()
    assert "0 waiting" in repr(gate)


async def test_the_engine_has_no_more_than_it_runs(gated: Stack, engine: SteppedEngine) -> None:
    batches = await gated.read(make_group(*[BASE] * 4))
    assert set(engine.sources) == {"0", "1"}
    engine.step(1, "stop")
    await turns(30)
    assert set(engine.sources) == {"2", "3"}
    engine.step(2, "stop")
    found = []
    while (batch := await batches.get()) is not None:
        found += [(delta.index, delta.token_ids) for delta in batch.deltas]
    assert found == [(0, (1,)), (1, (1,)), (2, (2,)), (3, (2,))]


async def test_a_crowd_delays_another_by_one_batch(gated: Stack, engine: SteppedEngine) -> None:
    crowd = [
        await gated.read((replace(make_request(f"c{i}"), tenant=TenantId("c")),)) for i in range(5)
    ]
    victim = await gated.read((make_request("v", "victim"),))
    assert "v" not in engine.sources
    engine.step(1, "stop")
    await turns(30)
    assert "v" in engine.sources
    for _ in range(3):
        engine.step(1, "stop")
        await turns(30)
    assert len(engine.aborted) == 0
    for batches in (victim, *crowd):
        while await batches.get() is not None:
            pass


async def test_cancel_reaches_a_request_that_waits(gated: Stack, engine: SteppedEngine) -> None:
    batches = await gated.read(make_group(*[BASE] * 4))
    await gated.replica.cancel(("2",))
    assert await batches.get() == TokenBatch((TokenDelta(2, finish_reason="abort"),))
    engine.step(1, "stop")
    await turns(30)
    assert set(engine.sources) == {"3"}
    engine.step(1, "stop")
    while await batches.get() is not None:
        pass


async def test_closing_a_group_lets_others_in(gated: Stack, engine: SteppedEngine) -> None:
    stream = gated.replica.generate(make_group(*[BASE] * 5))
    first = asyncio.create_task(anext(stream))
    await turns()
    other = await gated.read((make_request("o", "other"),))
    engine.step(1)
    await first
    assert "o" not in engine.sources
    await stream.aclose()
    await turns(30)
    assert set(engine.sources) == {"o"}
    engine.step(1, "stop")
    while await other.get() is not None:
        pass


async def test_files_of_waiting_requests_are_not_pinned(
    gated: Stack, engine: SteppedEngine
) -> None:
    keys = [await gated.publish(f"a{seed}", seed=seed) for seed in range(4)]
    batches = await gated.read(make_group(*keys))
    # All are fetched, and only those that run are held.
    await until(lambda: len(gated.cache.residents()) == 4 and "2 pinned" in repr(gated.cache))
    # Whose file came first was first at the gate.
    await until(lambda: len(engine.sources) == 2)
    num_done = 0
    while num_done < len(keys):
        # Those that follow take their files again first, in a thread.
        await until(lambda: len(engine.sources) > 0)
        num_done += len(engine.sources)
        engine.step(1, "stop")
        await turns(60)
    while await batches.get() is not None:
        pass


async def test_choices_count_as_sequences(tmp_path: Path) -> None:
    stack = Stack(EchoEngine(), tmp_path)
    gate = FairGate(FairLimits(max_num_seqs=4, reserved_seqs=0))
    stack.replica = Replica(stack.engine, stack.fetcher, gate=gate)
    reading = asyncio.create_task(
        collect(stack.replica, (make_request("many", n=3, max_tokens=2),))
    )
    await turns(3)
    assert "3 sequences" in repr(gate)
    found = await reading
    assert len(found[0]) == 6
    assert "0 sequences" in repr(gate)
    await stack.close()


async def test_an_engine_without_a_queue_in_front_bounds_itself() -> None:
    engine, wake = EchoEngine(step_s=0.01, max_num_seqs=1), asyncio.Event()
    first = await engine.submit(make_request("a"), None, wake)
    late = await engine.submit(make_request("b"), None, wake, 2)
    soon = await engine.submit(make_request("c"), None, wake, 1)
    order: list[str] = []
    while not (first.finished and late.finished and soon.finished):
        await wake.wait()
        wake.clear()
        for name, source in (("a", first), ("b", late), ("c", soon)):
            order += [name for _ in source.drain(0)]
    assert "".join(order) == "aaaaccccbbbb"
