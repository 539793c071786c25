import asyncio

import pytest

from contracts.adapters import BASE
from contracts.errors import (
    EngineFailed,
)
from contracts.generation import TokenBatch, TokenDelta
from tests.replicas.engines import (
    Stack,
    SteppedEngine,
    answer_steps,
    collect,
    make_group,
    turns,
)


async def test_cancel_ends_a_running_request_alone(stepped: Stack, engine: SteppedEngine) -> None:
    ada = await stepped.publish("ada")
    await stepped.replica.prefetch((ada,))
    batches = await stepped.read(make_group(ada, BASE))
    await stepped.replica.cancel(("0", "unknown"))
    batch = await batches.get()
    assert batch == TokenBatch((TokenDelta(0, finish_reason="abort"),))
    assert "0 pinned" in repr(stepped.cache)
    engine.step(1, "stop")
    rest = await batches.get()
    assert rest is not None
    assert [delta.index for delta in rest.deltas] == [1]
    assert await batches.get() is None


@pytest.mark.parametrize("num_turns", [0, 1, 2, 5])
async def test_cancel_reaches_a_request_that_still_waits_for_its_adapter(
    stepped: Stack, engine: SteppedEngine, num_turns: int
) -> None:
    slow = await stepped.publish("slow")
    event = stepped.store.held[slow.digest]
    stream = answer_steps(stepped.replica, make_group(slow, BASE, n=2))
    first = asyncio.create_task(anext(stream))
    await turns(num_turns + 1)
    await asyncio.gather(stepped.replica.cancel(("0",)), stepped.replica.cancel(("0",)))
    aborted = (await first).deltas
    assert aborted == tuple(TokenDelta(0, choice, finish_reason="abort") for choice in (0, 1))
    event.set()
    await turns()
    engine.step(1, "stop")
    assert {delta.index for delta in (await anext(stream)).deltas} == {1}
    assert [batch async for batch in stream] == []
    assert "0" not in engine.sources


async def test_cancel_of_the_last_one_ends_the_group(stepped: Stack) -> None:
    slow = await stepped.publish("slow")
    _ = stepped.store.held[slow.digest]
    batches = await stepped.read(make_group(slow))
    await stepped.replica.cancel(("0",))
    assert await batches.get() == TokenBatch((TokenDelta(0, finish_reason="abort"),))
    assert await batches.get() is None


async def test_closing_the_stream_ends_everything(stepped: Stack, engine: SteppedEngine) -> None:
    slow, ada = await stepped.publish("slow"), await stepped.publish("ada", seed=1)
    _ = stepped.store.held[slow.digest]
    await stepped.replica.prefetch((ada,))
    engine.stuck = {"3"}
    stream = stepped.replica.generate(make_group(BASE, ada, slow, ada))
    first = asyncio.create_task(anext(stream))
    await turns()
    engine.step(1)
    await first
    assert "1 pinned" in repr(stepped.cache)
    await stream.aclose()
    # Also the one whose submit never came back.
    assert {"0", "1", "3"} <= set(engine.aborted)
    assert engine.sources == {}


async def test_a_reader_that_is_cancelled_ends_everything(
    stepped: Stack, engine: SteppedEngine
) -> None:
    ada = await stepped.publish("ada")
    await stepped.replica.prefetch((ada,))
    task = asyncio.create_task(collect(stepped.replica, make_group(BASE, ada)))
    await turns()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(engine.aborted) == ["0", "1"]


async def test_files_are_let_go_although_the_engine_is_dead(
    stepped: Stack, engine: SteppedEngine
) -> None:
    ada = await stepped.publish("ada")
    await stepped.replica.prefetch((ada,))
    stream = stepped.replica.generate(make_group(ada, ada))
    first = asyncio.create_task(anext(stream))
    await turns()
    engine.step(1)
    await first
    engine.abort_failure = EngineFailed("dead")
    with pytest.raises(EngineFailed, match="dead"):
        await stream.aclose()
    stepped.assert_quiet()


async def test_stop_ends_the_groups_that_wait(echo: Stack) -> None:
    slow = await echo.publish("slow")
    _ = echo.store.held[slow.digest]
    batches = await echo.read(make_group(slow))
    await echo.replica.stop()
    async with asyncio.timeout(5):
        while await batches.get() is not None:
            pass
