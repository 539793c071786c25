import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapter_cache.flights import Flights
from contracts.adapters import DEFAULT_TENANT, AdapterKey, Digest
from contracts.errors import Overloaded

KEYS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40)), max_size=30)


def make_key(number: int, size_bytes: int) -> AdapterKey:
    return AdapterKey(DEFAULT_TENANT, "ada", 1, Digest(f"{number:064x}"), size_bytes)


@given(KEYS, st.integers(1, 4), st.integers(1, 100))
def test_no_more_than_the_bounds_is_ever_pending(
    asked: list[tuple[int, int]], max_pending: int, max_bytes: int
) -> None:
    async def play() -> None:
        flights, gate = Flights(max_pending, max_bytes), asyncio.Event()
        pending: dict[Digest, int] = {}

        async def fly() -> Path:
            await gate.wait()
            return Path("here")

        for number, size_bytes in asked:
            key = make_key(number, size_bytes)
            if flights.find(key.digest) is not None:
                continue
            fits = len(pending) < max_pending and sum(pending.values()) + size_bytes <= max_bytes
            if fits:
                flights.launch(key, fly)
                pending[key.digest] = size_bytes
            else:
                with pytest.raises(Overloaded):
                    flights.launch(key, fly)
            assert (len(flights), flights.pending_bytes) == (len(pending), sum(pending.values()))
        gate.set()
        tasks = [flight for digest in pending if (flight := flights.find(digest)) is not None]
        assert await asyncio.gather(*tasks) == [Path("here")] * len(pending)
        assert (len(flights), flights.pending_bytes) == (0, 0)

    asyncio.run(play())


async def test_a_refused_flight_leaves_nothing_behind() -> None:
    flights = Flights(1, 100)
    started: list[int] = []

    async def fly() -> Path:
        started.append(1)
        return Path("here")

    with pytest.raises(Overloaded, match="101"):
        flights.launch(make_key(1, 101), fly)
    assert flights.find(make_key(1, 101).digest) is None
    assert (len(flights), started) == (0, [])


async def test_a_failed_flight_gives_its_room_back() -> None:
    flights = Flights(1, 100)

    async def fly() -> Path:
        raise Overloaded("no room")

    for _ in range(3):
        with pytest.raises(Overloaded, match="no room"):
            await flights.launch(make_key(1, 100), fly)
    assert (len(flights), flights.pending_bytes) == (0, 0)


async def test_close_cancels_what_is_under_way() -> None:
    flights = Flights(2, 100)

    async def fly() -> Path:
        await asyncio.Event().wait()
        return Path("never")

    tasks = [flights.launch(make_key(number, 10), fly) for number in range(2)]
    await flights.close()
    assert all(task.cancelled() for task in tasks)
    assert (len(flights), flights.pending_bytes) == (0, 0)
