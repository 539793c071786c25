import asyncio

from hypothesis import given
from hypothesis import strategies as st

from contracts.adapters import AdapterChange, AdapterKey
from replicas.change_news import Actions, ChangeInbox, decide
from replicas.served_names import ServedNames
from tests.replicas.keys import key_of, moved

V1, V2, V3 = (key_of("a", version) for version in (1, 2, 3))


def act(change: AdapterChange, *served: AdapterKey, is_resident: bool = True) -> Actions:
    names = ServedNames(10)
    for key in served:
        names.note(key)
    names.apply(change)
    return decide(change, names, is_resident=is_resident)


def test_a_new_version_takes_the_place_of_the_old() -> None:
    assert act(moved(V1, V2), V1) == Actions(V1.digest, V2)
    assert act(moved(V1, V2)) == Actions(V1.digest, V2)


def test_what_is_not_here_is_not_fetched() -> None:
    assert act(moved(V1, V2), is_resident=False) == Actions(V1.digest)
    assert act(moved(None, V1), is_resident=False) == Actions()


def test_a_deleted_name_is_retired() -> None:
    assert act(moved(V2, None), V2) == Actions(V2.digest)


def test_bytes_that_another_name_has_stay() -> None:
    other = AdapterKey(V1.tenant, "b", 7, V1.digest, 10)
    assert act(moved(V1, V2), V1, other) == Actions(None, V2)
    assert act(moved(V1, None), other) == Actions()


def test_the_same_bytes_under_a_new_number_stay() -> None:
    again = AdapterKey(V1.tenant, V1.name, 2, V1.digest, 10)
    assert act(moved(V1, again), V1) == Actions()


def test_late_news_does_not_bring_back_what_is_outdated() -> None:
    assert act(moved(V1, V2), V3) == Actions(V1.digest)
    rolled_back = AdapterKey(V1.tenant, V1.name, 3, V1.digest, 10)
    assert act(moved(V1, V2), rolled_back) == Actions()


KEYS = st.builds(key_of, st.sampled_from("ab"), st.integers(1, 4), st.sampled_from(["", "x", "y"]))


@given(st.lists(KEYS, max_size=6), KEYS, KEYS | st.none(), st.booleans())
def test_no_bytes_that_are_current_here_are_retired(
    served: list[AdapterKey], old: AdapterKey, new: AdapterKey | None, is_resident: bool
) -> None:
    if new is not None:
        new = AdapterKey(old.tenant, old.name, new.version, new.digest, 10)
    names = ServedNames(10)
    for key in served:
        names.note(key)
    change = moved(old, new)
    names.apply(change)
    actions = decide(change, names, is_resident=is_resident)
    if actions.retire is not None:
        assert actions.retire == old.digest
        assert not names.serves(actions.retire)
        assert actions.fetch is None or actions.fetch.digest != actions.retire
    if actions.fetch is not None:
        newest = names.current(old.tenant, old.name)
        assert is_resident
        assert newest is None or newest.version <= actions.fetch.version


async def test_news_comes_in_order_and_waits_for_nobody() -> None:
    inbox = ChangeInbox(10)
    waiting = asyncio.create_task(inbox.take())
    await asyncio.sleep(0)
    first, second = moved(V1, V2), moved(V2, V3)
    inbox.put(first)
    inbox.put(second)
    assert await waiting == first
    assert await inbox.take() == second


async def test_a_gap_makes_what_came_before_it_worthless() -> None:
    inbox = ChangeInbox(10)
    inbox.put(moved(V1, V2))
    inbox.put(None)
    inbox.put(moved(V2, V3))
    assert await inbox.take() is None
    assert await inbox.take() == moved(V2, V3)


async def test_too_much_news_is_a_gap() -> None:
    inbox = ChangeInbox(3)
    for _ in range(4):
        inbox.put(moved(V1, V2))
    assert await inbox.take() is None
    inbox.put(moved(V2, V3))
    assert await inbox.take() == moved(V2, V3)
