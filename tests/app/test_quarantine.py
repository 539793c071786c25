from functools import partial

from app.quarantine import Quarantine
from app.trip import Trip
from contracts.adapters import BASE
from contracts.generation import GenerateRequest, Sampling
from tests.replicas.engines import turns


def make_trips(number: int) -> list[Trip]:
    return [Trip.first(0, GenerateRequest(f"q{i}", BASE, (1,), Sampling(1))) for i in range(number)]


async def test_one_is_inside_at_a_time() -> None:
    quarantine, gone = Quarantine(), list[int]()
    trips = make_trips(3)
    for number, trip in enumerate(trips):
        quarantine.enter(trip, partial(gone.append, number))
    assert gone == [0]
    quarantine.leave(trips[1])
    assert gone == [0]
    quarantine.leave(trips[0])
    assert gone == [0, 2]
    quarantine.leave(trips[2])
    quarantine.leave(trips[2])
    assert repr(quarantine) == "<Quarantine 0 waiting>"


async def test_nobody_is_inside_for_ever() -> None:
    quarantine, gone = Quarantine(max_alone_s=0.0), list[int]()
    for number, trip in enumerate(make_trips(3)):
        quarantine.enter(trip, partial(gone.append, number))
    await turns(20)
    assert gone == [0, 1, 2]
