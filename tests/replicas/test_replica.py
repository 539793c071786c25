import asyncio
from pathlib import Path

import pytest

from contracts.adapters import BASE
from contracts.errors import (
    AdapterCorrupt,
    DeadlineExceeded,
    EngineFailed,
    InvalidRequest,
    NotReady,
    Overloaded,
)
from contracts.generation import GenerateRequest, TokenBatch, TokenDelta
from contracts.replica import ReplicaInfo
from replicas.echo_engine import EchoEngine
from tests.replicas.engines import (
    Stack,
    SteppedEngine,
    collect,
    lost_key,
    make_group,
    text_of,
    turns,
)


async def test_a_group_of_base_and_adapters(echo: Stack) -> None:
    ada, bob = await echo.publish("ada"), await echo.publish("bob", seed=1)
    found = await collect(echo.replica, make_group(BASE, ada, bob, BASE))
    marks = ["", f":{ada.digest[:8]}", f":{bob.digest[:8]}", ""]
    for index, mark in enumerate(marks):
        assert text_of(found[index]) == f"7{mark} 8{mark} 7{mark} "


async def test_the_same_bytes_twice_are_one_file(echo: Stack) -> None:
    ada, bob = await echo.publish("ada"), await echo.publish("bob")
    assert ada.digest == bob.digest
    found = await collect(echo.replica, make_group(ada, bob, ada))
    assert len({text_of(deltas) for deltas in found.values()}) == 1
    assert len(echo.cache.residents()) == 1


async def test_no_requests_no_messages(echo: Stack) -> None:
    assert await collect(echo.replica, ()) == {}


async def test_one_message_a_step_carries_everybody(stepped: Stack, engine: SteppedEngine) -> None:
    ada = await stepped.publish("ada")
    await stepped.replica.prefetch((ada,))
    batches = await stepped.read(make_group(BASE, ada, ada, BASE))
    for token in range(3):
        engine.step(token)
        await turns()
        batch = batches.get_nowait()
        assert batch is not None
        assert [(d.index, d.token_ids) for d in batch.deltas] == [(i, (token,)) for i in range(4)]
        assert batches.empty()
    engine.step(9, "stop")
    last, end = await batches.get(), await batches.get()
    assert last is not None
    assert len(last.deltas) == 4
    assert end is None


async def test_a_slow_reader_loses_nothing(stepped: Stack, engine: SteppedEngine) -> None:
    stream = stepped.replica.generate(make_group(BASE, BASE))
    assert all(delta.entered for delta in (await anext(stream)).deltas)
    engine.step(1)
    await anext(stream)
    for token in (2, 3, 4):
        engine.step(token)
    batch = await anext(stream)
    assert sorted((d.index, d.token_ids[0]) for d in batch.deltas) == [
        (index, token) for index in (0, 1) for token in (2, 3, 4)
    ]
    await stream.aclose()


async def test_what_is_wrong_with_one_request_is_told_to_it_alone(echo: Stack) -> None:
    good = await echo.publish("good")
    corrupt = await echo.publish("corrupt", b"not a row, but with the right digest" * 9)
    found = await collect(echo.replica, make_group(lost_key(), good, corrupt, BASE, lost_key()))
    for index in (0, 2, 4):
        (delta,) = found[index]
        assert isinstance(delta.error, AdapterCorrupt)
    assert text_of(found[1]) == text_of(found[3]).replace(" ", f":{good.digest[:8]} ")


async def test_a_request_that_the_engine_refuses(stepped: Stack, engine: SteppedEngine) -> None:
    ada = await stepped.publish("ada")
    engine.refusals = {"1": InvalidRequest("no such thing"), "2": RuntimeError("secret")}
    batches = await stepped.read(make_group(BASE, BASE, BASE, ada))
    refused = batches.get_nowait()
    assert refused is not None
    errors = {delta.index: delta.error for delta in refused.deltas}
    assert errors.keys() == {1, 2}
    assert isinstance(errors[1], InvalidRequest)
    assert isinstance(errors[2], EngineFailed)
    assert "secret" not in str(errors[2])
    await engine.submitted["3"].wait()
    await turns()
    engine.step(1, "stop")
    last = await batches.get()
    assert last is not None
    assert {delta.index for delta in last.deltas} == {0, 3}
    assert await batches.get() is None


async def test_a_request_that_breaks_on_its_way(stepped: Stack, engine: SteppedEngine) -> None:
    ada = await stepped.publish("ada")
    await stepped.replica.prefetch((ada,))
    batches = await stepped.read(make_group(ada, BASE))
    engine.sources["0"].failure = EngineFailed("broken")
    engine.step(1)
    broken = await batches.get()
    assert broken is not None
    assert [type(delta.error) for delta in broken.deltas] == [EngineFailed, type(None)]
    stepped.cache.check_integrity()
    assert "0 pinned" in repr(stepped.cache)
    engine.step(2, "stop")
    rest = await batches.get()
    assert rest == TokenBatch((TokenDelta(1, token_ids=(2,), finish_reason="stop"),))
    assert await batches.get() is None


async def test_a_slow_fetch_holds_up_nobody_else(echo: Stack) -> None:
    slow, quick = await echo.publish("slow"), await echo.publish("quick", seed=1)
    event = echo.store.held[slow.digest]
    batches = await echo.read(make_group(slow, quick, BASE))
    done: set[int] = set()
    while done != {1, 2}:
        batch = await batches.get()
        assert batch is not None
        done |= {delta.index for delta in batch.deltas if delta.finish_reason == "length"}
    assert batches.empty()
    event.set()
    tokens = []
    while (batch := await batches.get()) is not None:
        tokens += [delta.token_ids for delta in batch.deltas]
    assert tokens == [(7,), (8,), (7,)]


async def test_a_store_that_never_answers(tmp_path: Path) -> None:
    stack = Stack(EchoEngine(), tmp_path, deadline_s=0.02)
    slow = await stack.publish("slow")
    _ = stack.store.held[slow.digest]
    found = await collect(stack.replica, make_group(slow, BASE))
    assert isinstance(found[0][0].error, DeadlineExceeded)
    assert text_of(found[1])
    await stack.close()


async def test_files_of_running_requests_are_not_evicted(tmp_path: Path) -> None:
    engine = SteppedEngine()
    stack = Stack(engine, tmp_path)
    ada, bob = await stack.publish("ada"), await stack.publish("bob", seed=1)
    stack = Stack(engine, tmp_path / "small", ada.size_bytes, store=stack.store)
    await stack.replica.prefetch((ada,))
    first = await stack.read(make_group(ada))
    second = await collect(stack.replica, make_group(bob))
    assert isinstance(second[0][0].error, Overloaded)
    engine.step(1, "stop")
    while await first.get() is not None:
        pass
    third = await stack.read(make_group(bob, first_id=3))
    await engine.submitted["3"].wait()
    await turns()
    engine.step(1, "stop")
    batch = await third.get()
    assert batch is not None
    assert batch.deltas[0].error is None
    assert await third.get() is None
    await stack.close()


async def test_prefetch_brings_files_and_tells_no_failures(echo: Stack) -> None:
    keys = [await echo.publish(name, seed=seed) for seed, name in enumerate("abc")]
    await echo.replica.prefetch((*keys, BASE, lost_key(), keys[0]))
    assert {r.digest for r in echo.cache.residents()} == {key.digest for key in keys}


async def test_two_groups_at_once_keep_apart(echo: Stack) -> None:
    ada = await echo.publish("ada")
    first = make_group(BASE, ada, max_tokens=20)
    second = tuple(
        GenerateRequest(f"other-{r.request_id}", r.adapter, (5,), r.sampling) for r in first
    )
    one, two = await asyncio.gather(collect(echo.replica, first), collect(echo.replica, second))
    assert text_of(one[0]) == "7 8 " * 10
    assert text_of(two[1]) == f"5:{ada.digest[:8]} " * 20


async def test_start_comes_before_describe(echo: Stack) -> None:
    with pytest.raises(NotReady):
        await echo.replica.describe()
    info = await echo.replica.start()
    assert await echo.replica.describe() is info
    await echo.replica.check()


class UnstartableEngine(EchoEngine):
    async def start(self) -> ReplicaInfo:
        raise EngineFailed("out of memory")

    async def check(self) -> None:
        raise EngineFailed("never ran")


async def test_an_engine_that_does_not_start(tmp_path: Path) -> None:
    stack = Stack(UnstartableEngine(), tmp_path)
    with pytest.raises(EngineFailed, match="out of memory"):
        await stack.replica.start()
    with pytest.raises(NotReady):
        await stack.replica.describe()
    with pytest.raises(EngineFailed, match="never ran"):
        await stack.replica.check()
    await stack.close()
