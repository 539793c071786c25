"""Which LoRA adapters may be in the engine at a time: no more than it has slots for.

Knows no engine and no files. fLoRA adapters need no seats, their slots are never short.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from time import monotonic

from contracts.adapters import Digest, TenantId
from contracts.errors import Overloaded


class Seat:
    """One request's hold on its adapter's place, from its arrival to its end. `leave` it then."""

    def __init__(self, seats: "LoraSeats", digest: Digest, tenant: TenantId, came_s: float) -> None:
        self.digest = digest
        self.tenant = tenant
        self.came_s = came_s
        self.is_taken = False
        self._seats = seats
        self._turn: asyncio.Future[None] | None = None

    async def turn(self) -> None:
        """Wait until the adapter has a place."""
        if not self.is_taken:
            self._turn = asyncio.get_running_loop().create_future()
            await self._turn

    def take(self) -> None:
        self.is_taken = True
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def leave(self) -> None:
        """The request has ended, wherever it was. Once is enough."""
        self._seats.leave(self)


class LoraSeats:
    """`num_seats` adapters at a time, each for as many requests as want it; `clock` gives seconds.

    A free place goes to the tenant that holds the fewest, of its requests to the oldest. Requests
    for an adapter that has a place go ahead of those that wait for one, but only until the oldest
    of these has waited for `patience_s`: then a busy adapter gives its place up some time.
    Raises Overloaded where `max_waiting` wait.
    """

    def __init__(
        self,
        num_seats: int,
        max_waiting: int = 2048,
        patience_s: float = 1.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._num_seats = num_seats
        self._max_waiting = max_waiting
        self._patience_s = patience_s
        self._clock = clock
        self._users: dict[Digest, Counter[TenantId]] = {}
        self._waiting: dict[Seat, None] = {}  # in order of arrival

    def ask(self, digest: Digest, tenant: TenantId) -> Seat:
        """A seat for a request; `is_taken` if its adapter has a place already or gets one."""
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded("Too many requests wait for a LoRA slot; try again later.")
        seat = Seat(self, digest, tenant, self._clock())
        self._waiting[seat] = None
        self._seat_those_who_wait()
        return seat

    def leave(self, seat: Seat) -> None:
        """See Seat.leave."""
        if seat in self._waiting:
            del self._waiting[seat]
        elif (users := self._users.get(seat.digest)) is not None and seat.is_taken:
            seat.is_taken = False
            users[seat.tenant] -= 1
            if not users.total():
                del self._users[seat.digest]
        self._seat_those_who_wait()

    @property
    def num_waiting(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<LoraSeats {len(self._users)}/{self._num_seats} taken, {self.num_waiting} wait>"

    def _seat_those_who_wait(self) -> None:
        while (seat := self._next()) is not None:
            del self._waiting[seat]
            self._users.setdefault(seat.digest, Counter())[seat.tenant] += 1
            seat.take()

    def _next(self) -> Seat | None:
        homeless = [seat for seat in self._waiting if seat.digest not in self._users]
        if homeless and len(self._users) < self._num_seats:
            return min(homeless, key=lambda seat: self._num_held(seat.tenant))
        latest_s = homeless[0].came_s if self._is_out_of_patience(homeless) else float("inf")
        ready = (seat for seat in self._waiting if seat.digest in self._users)
        return next((seat for seat in ready if seat.came_s <= latest_s), None)

    def _is_out_of_patience(self, homeless: list[Seat]) -> bool:
        return bool(homeless) and self._clock() - homeless[0].came_s >= self._patience_s

    def _num_held(self, tenant: TenantId) -> int:
        return sum(users[tenant] > 0 for users in self._users.values())
