"""Who is next, against a model that looks at everybody each time; and the bounds."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ask import Ask
from app.token_stream import TokenStream
from app.waiting_room import Guest, RoomLimits, WaitingRoom
from contracts.access import Caller
from contracts.adapters import TenantId
from contracts.generation import Sampling

WEIGHTS = {"a": 1.0, "b": 1.0, "c": 2.5}


def make_guest(request_id: str, tenant: str, max_tokens: int = 9) -> Guest:
    caller = Caller(tenant, TenantId(tenant), frozenset(), weight=WEIGHTS.get(tenant, 1.0))
    ask = Ask(request_id, "tiny", None, (1,), Sampling(max_tokens), caller)
    return Guest(ask, TokenStream(request_id), 0.0)


class SlowRoom:
    """The same order by looking at every tenant."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[Guest]] = {}
        self.owed: dict[str, float] = {}
        self.heads: dict[str, tuple[float, int]] = {}
        self.now = 0.0
        self.turns = 0

    def _enter(self, tenant: str) -> None:
        self.turns += 1
        self.heads[tenant] = (max(self.now, self.owed.get(tenant, 0.0)), self.turns)

    def add(self, guest: Guest) -> None:
        tenant = guest.ask.caller.tenant
        if not self.waiting.get(tenant):
            self._enter(tenant)
        self.waiting.setdefault(tenant, []).append(guest)

    def discard(self, request_id: str) -> bool:
        for guests in self.waiting.values():
            for guest in guests:
                if guest.ask.request_id == request_id:
                    guests.remove(guest)
                    return True
        return False

    def take(self, number: int) -> list[Guest]:
        taken: list[Guest] = []
        while len(taken) < number and any(self.waiting.values()):
            tenant = min((t for t, g in self.waiting.items() if g), key=lambda t: self.heads[t])
            guest = self.waiting[tenant].pop(0)
            self.now = self.heads[tenant][0]
            self.owed[tenant] = self.now + guest.cost
            if self.waiting[tenant]:
                self._enter(tenant)
            taken.append(guest)
        if not any(self.waiting.values()):
            self.owed, self.now = {}, 0.0
        return taken


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc"), st.integers(1, 50)),
        st.tuples(st.just("discard"), st.integers(0, 40)),
        st.tuples(st.just("take"), st.integers(1, 6)),
    ),
    max_size=80,
)


@given(STEPS)
def test_the_order_is_that_of_a_slow_model(steps: list[tuple[object, ...]]) -> None:
    room, model = WaitingRoom(RoomLimits()), SlowRoom()
    number = 0
    for step in steps:
        match step:
            case "add", str(tenant), int(tokens):
                guest = make_guest(str(number), tenant, tokens)
                room.add(guest)
                model.add(guest)
                number += 1
            case "discard", int(which):
                assert room.discard(str(which)) == model.discard(str(which))
            case "take", int(most):
                assert room.take(most) == model.take(most)
        room.check_integrity()
        assert len(room) == sum(map(len, model.waiting.values()))


def test_a_newcomer_is_next_whatever_a_flood_has_waiting() -> None:
    room = WaitingRoom(RoomLimits(10_000, 10_000))
    for number in range(1000):
        room.add(make_guest(f"a{number}", "a"))
    room.take(100)
    room.add(make_guest("b0", "b"))
    assert "b0" in [guest.ask.request_id for guest in room.take(2)]


def test_shares_follow_weights_and_sizes() -> None:
    room = WaitingRoom(RoomLimits(10_000, 10_000))
    for number in range(700):
        room.add(make_guest(f"a{number}", "a", 9))
        room.add(make_guest(f"b{number}", "b", 99))
        room.add(make_guest(f"c{number}", "c", 9))
    taken = room.take(360)
    tokens = Counter[str]()
    for guest in taken:
        tokens[guest.ask.caller.tenant] += 1 + guest.ask.sampling.max_tokens
    assert tokens["b"] == pytest.approx(tokens["a"], abs=100)
    assert tokens["c"] == pytest.approx(2.5 * tokens["a"], abs=250)


def test_one_tenant_fills_its_share_and_not_the_room() -> None:
    room = WaitingRoom(RoomLimits(max_waiting=5, max_waiting_per_tenant=3))
    a, b = TenantId("a"), TenantId("b")
    for number in range(3):
        assert room.full(a, 1, 0) == ""
        room.add(make_guest(f"a{number}", "a"))
    assert (room.full(a, 1, 0), room.full(b, 2, 0), room.full(b, 3, 0)) == ("tenant", "", "all")
    # Who can run needs no place.
    assert (room.full(a, 2, 2), room.full(b, 4, 2), room.full(b, 9, 2)) == ("", "", "tenant")


def test_what_is_remembered_of_tenants_is_bounded() -> None:
    room = WaitingRoom(RoomLimits())
    for number in range(20_000):
        room.add(make_guest(str(number), f"t{number}"))
        if number % 2:
            room.discard(str(number))
        room.take(4)
    assert len(room._starts) <= 4100
    for _ in range(1000):
        room.add(make_guest("again", "a"))
        room.discard("again")
    assert len(room._order) <= 100
