"""Over a real node cache: what must be kept is kept, whatever news comes in whatever order."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.adapters import DEFAULT_TENANT, AdapterChange, AdapterKey, AdapterRef, Digest
from contracts.errors import EngineFailed, StoreUnavailable
from tests.replicas.engines import Stack, SteppedEngine, make_group, turns, until
from tests.replicas.followed import FollowedStack
from tests.replicas.keys import moved


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[FollowedStack]:
    stack = FollowedStack(SteppedEngine(), tmp_path)
    await stack.replica.start()
    await turns()
    yield stack
    await stack.replica.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    stack.cache.check_integrity(read_blobs=True)


async def test_a_new_version_takes_the_place_of_the_old(stack: FollowedStack) -> None:
    old = await stack.publish("a")
    await stack.serve(old)
    new = await stack.publish("a", seed=1)
    await stack.feed.announce(moved(old, new))
    await until(lambda: stack.resident() == {new.digest})
    await until(lambda: stack.stepped.released == [old.digest])


async def test_what_was_never_here_is_left_alone(stack: FollowedStack) -> None:
    old, new = await stack.publish("a"), await stack.publish("a", seed=1)
    await stack.feed.announce(moved(old, new))
    await until(lambda: stack.stepped.released == [old.digest])
    await turns()
    assert stack.resident() == set()


async def test_a_request_in_flight_keeps_its_bytes_and_then_they_go(stack: FollowedStack) -> None:
    old = await stack.publish("a")
    batches = await stack.read(make_group(old, old))
    await until(lambda: len(stack.stepped.sources) == 2)
    new = await stack.publish("a", seed=1)
    await stack.feed.announce(moved(old, new))
    await until(lambda: stack.resident() == {old.digest, new.digest})
    assert stack.stepped.released == []
    assert "1 to retire" in repr(stack.follower)
    stack.stepped.step(1, "stop")
    while await batches.get() is not None:
        pass
    await until(lambda: stack.resident() == {new.digest})
    await until(lambda: stack.stepped.released == [old.digest])


async def test_bytes_that_came_back_while_they_were_to_be_retired_stay(
    stack: FollowedStack,
) -> None:
    first = await stack.publish("a")
    batches = await stack.read(make_group(first))
    await until(lambda: bool(stack.stepped.sources))
    second = await stack.publish("a", seed=1)
    await stack.feed.announce(moved(first, second))
    await until(lambda: "1 to retire" in repr(stack.follower))
    again = await stack.publish("a")
    assert again.digest == first.digest
    await stack.feed.announce(moved(second, again))
    await until(lambda: stack.stepped.released == [second.digest])
    stack.stepped.step(1, "stop")
    while await batches.get() is not None:
        pass
    await turns()
    assert stack.stepped.released == [second.digest]
    await until(lambda: stack.resident() == {first.digest})


async def test_a_deleted_adapter_leaves(stack: FollowedStack) -> None:
    key = await stack.publish("a")
    await stack.serve(key)
    await stack.store.delete(DEFAULT_TENANT, "a")
    await stack.feed.announce(moved(key, None))
    await until(lambda: stack.resident() == set())
    await until(lambda: stack.stepped.released == [key.digest])


async def test_after_a_gap_all_served_names_are_looked_up_at_once(stack: FollowedStack) -> None:
    keys = [await stack.publish(name, seed=seed) for seed, name in enumerate("abc")]
    await stack.serve(*keys)
    new = await stack.publish("a", seed=9)
    await stack.store.delete(DEFAULT_TENANT, "b")
    stack.feed.skip()
    await until(lambda: stack.resident() == {new.digest, keys[2].digest})
    await until(lambda: set(stack.stepped.released) == {keys[0].digest, keys[1].digest})
    assert stack.registry.num_asked == 1


async def test_a_gap_is_looked_into_until_the_registry_answers(stack: FollowedStack) -> None:
    key = await stack.publish("a")
    await stack.serve(key)
    new = await stack.publish("a", seed=1)
    stack.registry.failures = [StoreUnavailable("down"), RuntimeError("a bug"), TimeoutError()]
    stack.feed.skip()
    await until(lambda: stack.resident() == {new.digest})
    assert stack.pauses == sorted(stack.pauses)
    assert len(stack.pauses) == 3


async def test_a_registry_that_is_being_rebuilt_costs_nothing(stack: FollowedStack) -> None:
    key = await stack.publish("a")
    await stack.serve(key)
    stack.registry.is_empty, stack.guard.is_whole = True, False
    stack.feed.skip()
    await until(lambda: stack.guard.num_asked > 3)
    assert stack.resident() == {key.digest}
    stack.registry.is_empty, stack.guard.is_whole = False, True
    asked = stack.registry.num_asked
    await until(lambda: stack.registry.num_asked > asked)
    await turns()
    assert (stack.resident(), stack.stepped.released) == ({key.digest}, [])


@pytest.mark.parametrize("failure", [None, StoreUnavailable("down"), RuntimeError("a bug")])
async def test_a_feed_that_breaks_is_taken_up_again(
    stack: FollowedStack, failure: Exception | None
) -> None:
    old = await stack.publish("a")
    await stack.serve(old)
    new = await stack.publish("a", seed=1)
    stack.feed.failures = [failure, failure]
    await stack.feed.announce(moved(None, None))
    await until(lambda: stack.resident() == {new.digest})
    await until(lambda: bool(stack.feed._listeners))
    newest = await stack.publish("a", seed=2)
    await stack.feed.announce(moved(new, newest))
    await until(lambda: stack.resident() == {newest.digest})


async def test_one_change_that_fails_does_not_stop_the_next(
    stack: FollowedStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [await stack.publish(name, seed=seed) for seed, name in enumerate("ab")]
    await stack.serve(*keys)

    async def dead(digest: Digest) -> bool:
        raise EngineFailed("dead")

    monkeypatch.setattr(stack.stepped, "release", dead)
    del stack.store.blobs[keys[0].digest]
    lost = AdapterKey(DEFAULT_TENANT, "a", 2, Digest("f" * 64), 10)
    for change in (moved(keys[0], lost), moved(keys[1], None)):
        await stack.feed.announce(change)
    await until(lambda: stack.resident() == set())


OPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(st.just("publish"), st.sampled_from("abc"), st.integers(0, 3)),
        st.tuples(
            st.sampled_from(["finish", "delete", "again"]), st.sampled_from("abc"), st.just(0)
        ),
        st.tuples(st.sampled_from(["gap", "lose", "settle", "break"]), st.just(""), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(OPS)
def test_what_is_in_use_stays_whatever_news_comes(ops: list[tuple[str, str, int]]) -> None:
    asyncio.run(run_ops(ops))


async def run_ops(ops: list[tuple[str, str, int]]) -> None:
    """Requests, publishes and news as hypothesis likes: late, twice, lost, with gaps."""
    with tempfile.TemporaryDirectory() as folder:
        stack = FollowedStack(SteppedEngine(), Path(folder))
        await stack.replica.start()
        history: list[AdapterChange] = []
        is_losing = False
        for number, (kind, name, choice) in enumerate(ops):
            before = await current(stack, name)
            if kind == "ask" and before is not None:
                await stack.read(make_group(before, first_id=number))
            elif kind in ("publish", "delete"):
                if kind == "publish":
                    await stack.publish(name, seed=choice)
                else:
                    await stack.store.delete(DEFAULT_TENANT, name)
                after = await current(stack, name)
                if before != after:
                    history.append(moved(before, after))
                    if not is_losing:
                        await stack.feed.announce(history[-1])
            elif kind == "again" and history:
                await stack.feed.announce(history[number % len(history)])
            elif kind == "finish":
                stack.stepped.step(1, "stop")
            elif kind == "gap":
                stack.feed.skip()
            elif kind == "break":
                stack.feed.failures = [None, StoreUnavailable("down")]
                stack.registry.failures = [StoreUnavailable("down")]
            elif kind == "settle":
                await asyncio.sleep(0.002)
            is_losing = kind == "lose"
            await turns(3)
            assert_in_use_stays(stack)
        await end(stack)


async def current(stack: Stack, name: str) -> AdapterKey | None:
    return (await stack.store.resolve([AdapterRef(DEFAULT_TENANT, name)]))[0] if name else None


def assert_in_use_stays(stack: FollowedStack) -> None:
    used = {source.request.adapter.digest for source in stack.stepped.sources.values()}
    assert used <= stack.resident()


async def end(stack: FollowedStack) -> None:
    """Once all have ended and a gap was looked into, the replica knows what the registry does."""
    stack.feed.failures.clear()
    stack.registry.failures.clear()
    while stack.reading:
        stack.stepped.step(1, "stop")
        await asyncio.sleep(0.001)
        assert_in_use_stays(stack)
    await until(lambda: bool(stack.feed._listeners))
    stack.feed.skip()
    names = stack.follower._names
    truth = {name: await current(stack, name) for name in "abc"}

    def is_known() -> bool:
        return all(truth[r.name] == names.current(r.tenant, r.name) for r in names.refs())

    await until(is_known)
    await stack.replica.stop()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    stack.cache.check_integrity(read_blobs=True)
    assert "0 pinned" in repr(stack.cache)
