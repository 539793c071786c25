"""When a window closes, who is in it, who is refused, and what leaving frees."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence

import pytest

from adapter_cache.store import MemoryStore
from app.ask import Ask
from app.dispatcher import LocalDispatcher
from app.gather import Gather, GatherLimits, TimerBell, WindowTuning
from app.token_stream import TokenStream
from app.waiting_room import RoomLimits
from app.window import Window
from contracts.access import Caller
from contracts.adapters import AdapterKey, TenantId
from contracts.errors import DeadlineExceeded, NotReady, Overloaded, ServingError
from contracts.generation import GenerateRequest, Sampling, TokenBatch, TokenDelta
from contracts.replica import ReplicaInfo
from tests.app.parts import CountingReplica


class Holding:
    """A replica that answers a request once it is told to."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.cancelled: list[str] = []
        self.go: dict[str, asyncio.Event] = {}

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        self.groups.append([request.request_id for request in requests])
        for index, request in enumerate(requests):
            await self.event(request.request_id).wait()
            yield TokenBatch((TokenDelta(index, 0, (1,), "x", finish_reason="stop"),))

    def event(self, request_id: str) -> asyncio.Event:
        return self.go.setdefault(request_id, asyncio.Event())

    async def cancel(self, request_ids: tuple[str, ...]) -> None:
        self.cancelled.extend(request_ids)
        for request_id in request_ids:
            self.event(request_id).set()

    async def describe(self) -> ReplicaInfo:
        raise NotReady("never")

    async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
        raise NotReady("never")

    async def metrics(self) -> tuple[str, bytes]:
        return "r", b""


def make_ask(request_id: str, tenant: str = "a") -> Ask:
    caller = Caller(tenant, TenantId(tenant), frozenset())
    return Ask(request_id, "tiny", None, (1,), Sampling(1), caller)


def make_gather(
    replica: Holding, tuning: WindowTuning, limits: GatherLimits | None = None
) -> tuple[Gather, Window]:
    window = Window(MemoryStore(), LocalDispatcher(replica), store_timeout_s=1)
    return Gather(window, TimerBell(), tuning, limits=limits), window


def enter(gather: Gather, names: Sequence[str], tenant: str = "a") -> list[TokenStream]:
    return [stream for name in names for stream in gather.open([make_ask(name, tenant)])]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0.001)


async def outcome(stream: TokenStream) -> str | ServingError:
    try:
        return "".join([delta.text async for burst in stream for delta in burst])
    except ServingError as error:
        return error


async def test_a_full_window_closes_at_once() -> None:
    replica = Holding()
    gather, window = make_gather(replica, WindowTuning(3, 0.9, adaptive=False))
    enter(gather, ["r0", "r1", "r2", "r3"])
    await settle()
    assert replica.groups == [["r0", "r1", "r2"]]
    assert gather.num_waiting == 1
    await window.aclose()


async def test_a_window_closes_when_its_first_request_has_waited() -> None:
    replica = Holding()
    gather, window = make_gather(replica, WindowTuning(4, 0.05, adaptive=False))
    enter(gather, ["r0", "r1"])
    await settle()
    assert replica.groups == []
    await asyncio.sleep(0.06)
    assert replica.groups == [["r0", "r1"]]
    await window.aclose()


async def test_an_idle_door_waits_for_nobody() -> None:
    replica = Holding()
    gather, window = make_gather(replica, WindowTuning(4, 0.9))
    enter(gather, ["r0", "r1"])
    await settle()
    assert replica.groups == [["r0", "r1"]]
    # Now something runs, and waiting for company is worth it.
    enter(gather, ["r2"])
    await settle()
    assert gather.num_waiting == 1
    await window.aclose()


async def test_zero_wait_still_takes_those_that_come_together() -> None:
    replica = Holding()
    gather, window = make_gather(replica, WindowTuning(4, 0.0, adaptive=False))
    enter(gather, ["r0"])
    await settle()
    enter(gather, ["r1", "r2"])
    await settle()
    assert replica.groups == [["r0"], ["r1", "r2"]]
    await window.aclose()


async def test_tuning_loses_nobody_and_counts_from_the_next_window_on() -> None:
    replica = Holding()
    gather, window = make_gather(replica, WindowTuning(8, 0.9, adaptive=False))
    enter(gather, ["r0", "r1", "r2"])
    await settle()
    gather.tune(WindowTuning(2, 0.9, adaptive=False))
    await settle()
    assert replica.groups == [["r0", "r1"]]
    gather.tune(WindowTuning(1, 0.0))
    await settle()
    assert replica.groups == [["r0", "r1"], ["r2"]]
    await window.aclose()


async def test_who_leaves_or_expires_while_waiting_is_never_sent() -> None:
    replica = Holding()
    gather, window = make_gather(replica, WindowTuning(4, 0.02, adaptive=False))
    gone, late, stays = enter(gather, ["gone", "late", "stays"])
    gone.close()
    late.expire(DeadlineExceeded("late"))
    assert gather.num_waiting == 1
    assert isinstance(await outcome(late), DeadlineExceeded)
    replica.event("stays").set()
    assert await outcome(stays) == "x"
    assert (replica.groups, replica.cancelled) == ([["stays"]], [])
    await window.aclose()


async def test_more_than_may_run_wait_and_go_in_turn_between_tenants() -> None:
    replica = Holding()
    limits = GatherLimits(2, RoomLimits(10, 8))
    gather, window = make_gather(replica, WindowTuning(8, 0.0), limits)
    enter(gather, [f"a{i}" for i in range(6)])
    await settle()
    enter(gather, ["b0"], "b")
    assert (replica.groups, gather.num_waiting) == ([["a0", "a1"]], 5)
    # b comes next although four of a came before it.
    replica.event("a0").set()
    await settle()
    replica.event("a1").set()
    await settle()
    assert [group[0] for group in replica.groups[1:]] == ["b0", "a2"]
    await window.aclose()


async def test_a_flood_is_shed_before_it_fills_what_all_share() -> None:
    replica = Holding()
    gather, window = make_gather(replica, WindowTuning(), GatherLimits(1, RoomLimits(5, 3)))
    enter(gather, ["a0"])
    await settle()
    enter(gather, ["a1", "a2", "a3"])
    with pytest.raises(Overloaded, match="of this tenant"):
        gather.require_room(make_ask("a4").caller)
    with pytest.raises(Overloaded):
        gather.open([make_ask("a4")])
    enter(gather, ["b0", "b1"], "b")
    with pytest.raises(Overloaded, match=r"requests are waiting"):
        gather.open([make_ask("b2", "b")])
    shed = window.metrics.render().decode()
    assert 'flora_shed_requests_total{bound="tenant"} 2.0' in shed
    assert 'flora_shed_requests_total{bound="all"} 1.0' in shed
    # The prompts of one request come in together or not at all.
    with pytest.raises(Overloaded):
        gather.open([make_ask(f"c{i}", "c") for i in range(3)])
    assert gather.num_waiting == 5
    await window.aclose()


async def test_a_stop_tells_those_who_wait_and_lets_nobody_in() -> None:
    replica = Holding()
    gather, window = make_gather(replica, WindowTuning(), GatherLimits(1, RoomLimits(5, 5)))
    first, second = enter(gather, ["r0", "r1"])
    await settle()
    gather.aclose()
    assert isinstance(await outcome(second), NotReady)
    await window.aclose()
    assert isinstance(await outcome(first), ServingError)
    with pytest.raises(NotReady):
        gather.open([make_ask("r2")])
    assert (gather.num_waiting, window.num_running) == (0, 0)


@pytest.mark.parametrize("seed", range(4))
async def test_everybody_ends_and_no_bound_is_broken(seed: int) -> None:
    rng = random.Random(seed)
    window = Window(MemoryStore(), LocalDispatcher(CountingReplica(0.0005)), store_timeout_s=1)
    limits = GatherLimits(5, RoomLimits(20, 12))
    gather = Gather(window, TimerBell(), WindowTuning(3, 0.001), limits=limits)
    ends: list[str | ServingError] = []

    async def one(number: int) -> None:
        await asyncio.sleep(rng.random() * 0.2)
        if rng.random() < 0.1:
            gather.tune(WindowTuning(rng.randint(1, 8), rng.choice([0.0, 0.002])))
        try:
            [stream] = gather.open([make_ask(f"r{number}", rng.choice("abc"))])
        except Overloaded as error:
            ends.append(error)
            return
        assert window.num_running <= 5
        assert gather.num_waiting <= 20 + 5
        if rng.random() < 0.3:
            await asyncio.sleep(rng.random() * 0.01)
            stream.close()
        ends.append(await outcome(stream))

    async with asyncio.timeout(8):
        await asyncio.gather(*(one(number) for number in range(300)))
    assert len(ends) == 300
    assert (gather.num_waiting, window.num_running) == (0, 0)
    assert {type(end) for end in ends} <= {str, Overloaded}
    await window.aclose()
