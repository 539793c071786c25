"""Who travels together, and that nobody's trouble becomes a neighbour's."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.store import MemoryStore
from app.ask import Ask
from app.dispatcher import LocalDispatcher
from app.prefetch import Prefetcher
from app.token_stream import TokenStream
from app.window import Window
from app.window_plan import plan_window
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterRef, Digest
from contracts.errors import (
    EngineFailed,
    NotReady,
    ServingError,
    StoreUnavailable,
    UnknownModel,
)
from contracts.generation import Sampling
from tests.app.parts import CountingReplica, publish


def make_ask(number: int, adapter: str | None = None, max_tokens: int = 3, n: int = 1) -> Ask:
    ref = AdapterRef(DEFAULT_TENANT, adapter) if adapter else None
    sampling = Sampling(max_tokens, n=n)
    return Ask(f"r{number}", f"tiny:{adapter}" if adapter else "tiny", ref, (1, 2), sampling)


class SlowStore(MemoryStore):
    """Counts its calls; answers after `delay_s`, or with `error`."""

    def __init__(self, delay_s: float = 0.0, error: Exception | None = None) -> None:
        super().__init__()
        self.delay_s = delay_s
        self.error = error
        self.num_resolves = 0

    async def resolve(self, refs: Sequence[AdapterRef]) -> list[AdapterKey | None]:
        self.num_resolves += 1
        await asyncio.sleep(self.delay_s)
        if self.error:
            raise self.error
        return await super().resolve(refs)


def make_window(store: MemoryStore, replica: CountingReplica) -> Window:
    dispatcher = LocalDispatcher(replica)
    return Window(
        store,
        dispatcher,
        store_timeout_s=0.1,
        base_wait_s=0.01,
        prefetcher=Prefetcher(dispatcher),
    )


async def read(stream: TokenStream) -> str | ServingError:
    try:
        return "".join([d.text async for burst in stream for d in burst])
    except ServingError as error:
        return error


async def read_all(streams: Sequence[TokenStream]) -> list[str | ServingError]:
    return list(await asyncio.gather(*map(read, streams)))


NAMES = st.lists(st.none() | st.sampled_from("abcd"), max_size=12)


@given(NAMES, st.sets(st.sampled_from("abcd")))
def test_a_plan_runs_or_refuses_each_ask_once(names: list[str | None], known: set[str]) -> None:
    asks = [make_ask(i, name) for i, name in enumerate(names)]
    found = {
        AdapterRef(DEFAULT_TENANT, n): AdapterKey(DEFAULT_TENANT, n, 1, Digest("d"), 9)
        for n in known
    }
    plan = plan_window(asks, found)
    ran = [r.request_id for group in plan.groups for r in group]
    refused = [request_id for request_id, _ in plan.refused]
    assert sorted(ran + refused) == sorted(ask.request_id for ask in asks)
    assert {a.request_id for a in asks if a.adapter and a.adapter not in found} == set(refused)
    assert len(plan.groups) == bool(ran)


def test_a_failed_store_refuses_only_who_needs_it() -> None:
    down = StoreUnavailable("down")
    plan = plan_window([make_ask(0), make_ask(1, "a")], down)
    assert [r.request_id for r in plan.groups[0]] == ["r0"]
    assert plan.refused == (("r1", down),)


def test_a_name_that_nobody_can_resolve_now_fails_alone() -> None:
    refs = [AdapterRef(DEFAULT_TENANT, name) for name in ("a", "b", "c")]
    key, down = AdapterKey(DEFAULT_TENANT, "a", 1, Digest("d" * 64), 1), StoreUnavailable("down")
    found = dict(zip(refs, (key, None, down), strict=True))
    plan = plan_window([make_ask(i, ref.name) for i, ref in enumerate(refs)], found)
    assert [[request.adapter for request in group] for group in plan.groups] == [[key]]
    assert [type(error) for _, error in plan.refused] == [UnknownModel, StoreUnavailable]


async def test_one_window_is_one_resolve_and_one_group() -> None:
    store, replica = SlowStore(), CountingReplica()
    for name in ("a", "b"):
        await publish(store, name)
    asks = [make_ask(0, "a"), make_ask(1), make_ask(2, "b", 2), make_ask(3, "a"), make_ask(4, "no")]
    window = make_window(store, replica)
    answers = await read_all(window.open(asks))
    assert answers[:4] == ["a0 a1 a2 ", "base0 base1 base2 ", "b0 b1 ", "a0 a1 a2 "]
    assert isinstance(answers[4], UnknownModel)
    assert (store.num_resolves, len(replica.groups)) == (1, 1)
    await asyncio.sleep(0)
    assert window.num_running == 0


async def test_base_requests_never_touch_the_store() -> None:
    store = SlowStore(error=StoreUnavailable("down"))
    window = make_window(store, CountingReplica())
    assert await read_all(window.open([make_ask(0)])) == ["base0 base1 base2 "]
    assert store.num_resolves == 0


@pytest.mark.parametrize(
    "store",
    [
        SlowStore(error=StoreUnavailable("down")),
        SlowStore(error=RuntimeError("a bug")),
        SlowStore(delay_s=60),
    ],
)
async def test_a_store_in_trouble_costs_base_requests_nothing(store: SlowStore) -> None:
    window = make_window(store, CountingReplica())
    base, adapted = window.open([make_ask(0), make_ask(1, "a")])
    async with asyncio.timeout(0.09):
        assert await read(base) == "base0 base1 base2 "
    assert isinstance(await read(adapted), StoreUnavailable)


async def test_a_slow_store_splits_the_window() -> None:
    store, replica = SlowStore(delay_s=0.05), CountingReplica()
    await publish(store, "a")
    window = make_window(store, replica)
    answers = await read_all(window.open([make_ask(0, "a"), make_ask(1)]))
    assert answers == ["a0 a1 a2 ", "base0 base1 base2 "]
    assert [[r.request_id for r in group] for group in replica.groups] == [["r1"], ["r0"]]


async def test_one_failed_request_leaves_the_others_alone() -> None:
    store = MemoryStore()
    await publish(store, "broken")
    window = make_window(store, CountingReplica())
    broken, whole = await read_all(window.open([make_ask(0, "broken"), make_ask(1)]))
    assert isinstance(broken, EngineFailed)
    assert whole == "base0 base1 base2 "


@pytest.mark.parametrize("name", ["crash", "deaf"])
async def test_a_lost_group_fails_each_of_its_streams(name: str) -> None:
    store = MemoryStore()
    await publish(store, name)
    window = make_window(store, CountingReplica())
    answers = await read_all(
        window.open([make_ask(0, name), make_ask(1), make_ask(2, max_tokens=1)])
    )
    assert [type(a) for a in answers] == [EngineFailed, EngineFailed, str]


async def test_a_leaving_reader_is_cancelled_at_once_and_alone() -> None:
    replica = CountingReplica(step_s=0.01)
    window = make_window(MemoryStore(), replica)
    stays, leaves = window.open([make_ask(0, max_tokens=20), make_ask(1, max_tokens=20)])
    await anext(leaves)
    leaves.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert replica.cancelled == {"r1"}
    text = await read(stays)
    assert isinstance(text, str)
    assert text.endswith("base19 ")


async def test_a_reader_who_leaves_before_the_dispatch_is_never_sent() -> None:
    store, replica = SlowStore(delay_s=0.02), CountingReplica()
    await publish(store, "a")
    window = make_window(store, replica)
    first, second = window.open([make_ask(0, "a"), make_ask(1, "a")])
    first.close()
    assert await read(second) == "a0 a1 a2 "
    assert [r.request_id for r in replica.groups[0]] == ["r1"]


async def test_closing_the_window_fails_what_runs() -> None:
    window = make_window(MemoryStore(), CountingReplica(step_s=10))
    (stream,) = window.open([make_ask(0)])
    await asyncio.sleep(0.01)
    await window.aclose()
    assert isinstance(await read(stream), EngineFailed)
    assert "running=0" in repr(window)


class Rebuilding:
    """A guard that says so after `delay_s`."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s

    async def require_whole(self) -> None:
        await asyncio.sleep(self.delay_s)
        raise NotReady("rebuilding")


@pytest.mark.parametrize(("delay_s", "error"), [(0.0, NotReady), (60.0, StoreUnavailable)])
async def test_doubt_about_an_unknown_name_delays_no_neighbour(
    delay_s: float, error: type[ServingError]
) -> None:
    store, replica = MemoryStore(), CountingReplica()
    await publish(store, "a")
    guard = Rebuilding(delay_s)
    window = Window(store, LocalDispatcher(replica), store_timeout_s=0.1, guard=guard)
    known, unknown = window.open([make_ask(0, "a"), make_ask(1, "b")])
    async with asyncio.timeout(0.09):
        assert await read(known) == "a0 a1 a2 "
    assert isinstance(await read(unknown), error)


async def test_adapters_are_announced_once_beside_their_group() -> None:
    store, replica = MemoryStore(), CountingReplica()
    for seed, name in enumerate("ab"):
        await publish(store, name, seed=seed)
    window = make_window(store, replica)
    await read_all(window.open([make_ask(0, "a"), make_ask(1, "a"), make_ask(2)]))
    await read_all(window.open([make_ask(3, "a"), make_ask(4, "b")]))
    assert [[key.name for key in keys] for keys in replica.prefetched] == [["a"], ["b"]]


async def test_a_prefetch_that_hangs_or_fails_holds_up_nothing() -> None:
    class Stuck(CountingReplica):
        async def prefetch(self, keys: tuple[AdapterKey, ...]) -> None:
            await asyncio.sleep(3600 if keys[0].name == "a" else 0)
            raise EngineFailed("no")

    store = MemoryStore()
    for seed, name in enumerate("ab"):
        await publish(store, name, seed=seed)
    window = make_window(store, Stuck())
    for name in "ab":
        async with asyncio.timeout(1):
            assert await read_all(window.open([make_ask(0, name)])) == [f"{name}0 {name}1 {name}2 "]


async def test_without_a_prefetcher_nothing_is_announced() -> None:
    store, replica = MemoryStore(), CountingReplica()
    await publish(store, "a")
    window = Window(store, LocalDispatcher(replica), store_timeout_s=0.1)
    assert await read_all(window.open([make_ask(0, "a")])) == ["a0 a1 a2 "]
    assert replica.prefetched == []
