"""No more LoRA adapters at a time than seats, and everybody gets one in the end."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.adapters import Digest, TenantId
from contracts.errors import Overloaded
from replicas.lora_seats import LoraSeats, Seat
from tests.replicas.keys import digest_of

A, B, C, D = (digest_of(name) for name in "abcd")
ANN, BOB = TenantId("ann"), TenantId("bob")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_requests_for_one_adapter_share_its_seat() -> None:
    seats = LoraSeats(2)
    first, second, other = (seats.ask(digest, ANN) for digest in (A, A, B))
    assert [seat.is_taken for seat in (first, second, other)] == [True] * 3
    waiting = seats.ask(C, ANN)
    assert not waiting.is_taken
    assert seats.num_waiting == 1
    first.leave()
    first.leave()
    assert not waiting.is_taken, "another request still uses that adapter"
    second.leave()
    assert waiting.is_taken
    assert repr(seats) == "<LoraSeats 2/2 taken, 0 wait>"


def test_a_free_seat_goes_to_the_tenant_that_has_fewest() -> None:
    seats = LoraSeats(2)
    one = seats.ask(A, ANN)
    seats.ask(B, ANN)
    anns, bobs = seats.ask(C, ANN), seats.ask(D, BOB)
    one.leave()
    assert (anns.is_taken, bobs.is_taken) == (False, True)


def test_a_busy_adapter_gives_its_seat_up_when_somebody_waited_long() -> None:
    clock = Clock()
    seats = LoraSeats(1, patience_s=1.0, clock=clock)
    first, waiting = seats.ask(A, ANN), seats.ask(B, ANN)
    clock.now_s = 0.5
    second = seats.ask(A, ANN)
    assert second.is_taken
    clock.now_s = 1.0
    third = seats.ask(A, ANN)
    assert not third.is_taken
    first.leave()
    second.leave()
    assert waiting.is_taken
    assert not third.is_taken
    waiting.leave()
    assert third.is_taken


def test_a_request_that_goes_away_makes_room_for_those_behind_it() -> None:
    clock = Clock()
    seats = LoraSeats(1, patience_s=1.0, clock=clock)
    seats.ask(A, ANN)
    waiting = seats.ask(B, ANN)
    clock.now_s = 2.0
    behind = seats.ask(A, BOB)
    assert not behind.is_taken
    waiting.leave()
    assert behind.is_taken


def test_too_many_waiting_are_refused() -> None:
    seats = LoraSeats(1, max_waiting=1)
    seats.ask(A, ANN)
    seats.ask(B, ANN)
    with pytest.raises(Overloaded):
        seats.ask(C, BOB)


async def test_turn_ends_when_the_seat_is_taken() -> None:
    seats = LoraSeats(1)
    first, second = seats.ask(A, ANN), seats.ask(B, ANN)
    await first.turn()
    turn = asyncio.ensure_future(second.turn())
    await asyncio.sleep(0)
    assert not turn.done()
    first.leave()
    await turn
    cancelled = asyncio.ensure_future(seats.ask(C, ANN).turn())
    await asyncio.sleep(0)
    cancelled.cancel()
    second.leave()


STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from([ANN, BOB]), st.integers(0, 5)), max_size=50
)


@given(STEPS, st.integers(1, 3))
def test_never_too_many_and_nobody_waits_beside_a_free_seat(
    steps: list[tuple[str, TenantId, int]], num_seats: int
) -> None:
    clock = Clock()
    seats = LoraSeats(num_seats, clock=clock)
    here: list[Seat] = []
    for name, tenant, leaver in steps:
        clock.now_s += 0.4
        if leaver < len(here):
            here.pop(leaver).leave()
        here.append(seats.ask(digest_of(name), tenant))
        seated = digests(here, True)
        assert len(seated) <= num_seats
        assert not digests(here, False) or len(seated) == num_seats
        assert seats.num_waiting == sum(not seat.is_taken for seat in here)
    # Whoever is here is seated once those before it have gone: nobody is forgotten.
    while here:
        taken = [seat for seat in here if seat.is_taken]
        assert taken
        for seat in taken:
            seat.leave()
            here.remove(seat)
    assert repr(seats) == f"<LoraSeats 0/{num_seats} taken, 0 wait>"


def digests(seats: list[Seat], is_taken: bool) -> set[Digest]:
    return {seat.digest for seat in seats if seat.is_taken == is_taken}
