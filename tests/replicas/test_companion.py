"""A replica tells its companions of every use of an adapter, and of its end, once each."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from contracts.adapters import BASE, AdapterKey
from contracts.errors import InvalidRequest
from contracts.replica import ReplicaInfo
from replicas.companion import Companion
from replicas.echo_engine import EchoEngine
from tests.replicas.engines import (
    Stack,
    SteppedEngine,
    collect,
    lost_key,
    make_group,
    turns,
)


class Watcher(Companion):
    """Writes down what it is told."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.began_: Counter[str] = Counter()
        self.ended_: Counter[str] = Counter()

    async def start(self) -> None:
        self.log.append("companion starts")

    def began(self, key: AdapterKey) -> None:
        self.began_[key.name] += 1

    def ended(self, key: AdapterKey) -> None:
        self.ended_[key.name] += 1

    async def stop(self) -> None:
        self.log.append("companion stops")


class LoggingEngine(SteppedEngine):
    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    async def start(self) -> ReplicaInfo:
        self.log.append("engine starts")
        return await super().start()

    async def stop(self) -> None:
        self.log.append("engine stops")
        await super().stop()


def watched(tmp_path: Path) -> tuple[Stack, LoggingEngine, Watcher]:
    log: list[str] = []
    engine, watcher = LoggingEngine(log), Watcher(log)
    return Stack(engine, tmp_path, companions=[Companion(), watcher]), engine, watcher


async def test_companions_live_within_the_engines_life(tmp_path: Path) -> None:
    stack, engine, _ = watched(tmp_path)
    await stack.replica.start()
    await stack.close()
    assert engine.log == ["engine starts", "companion starts", "companion stops", "engine stops"]


async def test_the_engine_ends_although_a_companion_does_not_stop(tmp_path: Path) -> None:
    stack, engine, watcher = watched(tmp_path)

    async def stop() -> None:
        raise RuntimeError("a bug")

    watcher.stop = stop  # type: ignore[method-assign]
    with pytest.raises(RuntimeError):
        await stack.replica.stop()
    assert engine.log == ["engine stops"]


async def test_every_use_has_one_end(tmp_path: Path) -> None:
    log: list[str] = []
    watcher = Watcher(log)
    stack = Stack(EchoEngine(), tmp_path, companions=[watcher])
    ada = await stack.publish("ada")
    await collect(stack.replica, make_group(BASE, ada, lost_key(), ada))
    assert watcher.began_ == watcher.ended_ == {"ada": 2, "lost": 1}
    await stack.close()


@pytest.mark.parametrize("num_turns", [0, 1, 3, 10])
async def test_a_cancelled_use_has_one_end(tmp_path: Path, num_turns: int) -> None:
    stack, engine, watcher = watched(tmp_path)
    slow, ada = await stack.publish("slow"), await stack.publish("ada", seed=1)
    _ = stack.store.held[slow.digest]
    engine.refusals = {"2": InvalidRequest("no such thing")}
    stream = stack.replica.generate(make_group(slow, ada, ada))
    first = asyncio.create_task(anext(stream))
    await turns(num_turns + 1)
    await stack.replica.cancel(("0",))
    await first
    await stream.aclose()
    assert watcher.began_ == watcher.ended_
    await stack.close()
