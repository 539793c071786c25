"""The requests of one group on their way, each on the leg that its replica carries."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from app.quarantine import Quarantine
from app.shared_stream import SharedStream, Tell
from app.trip import Trip
from contracts.errors import EngineFailed, NotReady, ServingError
from contracts.generation import StepPart, TokenBatch, TokenDelta
from routing.chooser import ReplicaChooser
from routing.policy import split

_LOG = logging.getLogger(__name__)
_RETRIED = (EngineFailed, NotReady)
_NOBODY = "No engine is running."
_FIRST_PAUSE_S = 0.1
_MAX_PAUSE_S = 5.0
_UNFINISHED = "The engine ended without finishing the request."


@dataclass(frozen=True, slots=True)
class FailoverLimits:
    """A request is tried `max_attempts` times. It waits `wait_s` for a replica where there is none,
    and `resume_wait_s` where its client has tokens already. A replica that says nothing for
    `hang_after_s` while another one moves has its requests taken away.
    """

    max_attempts: int = 16
    wait_s: float = 30.0
    resume_wait_s: float = 600.0
    hang_after_s: float = 20.0


class FailoverObserver(Protocol):
    """Counts what happens to requests on their way."""

    def placed(self, why: str, number: int) -> None:
        """So many requests were sent to a replica, and why there."""
        ...

    def lost(self, why: str, number: int) -> None:
        """So many requests were lost with their replica, and go on elsewhere if they may."""
        ...


class NoObserver:
    """Counts nothing."""

    def placed(self, why: str, number: int) -> None:
        """See FailoverObserver."""

    def lost(self, why: str, number: int) -> None:
        """See FailoverObserver."""


@dataclass(frozen=True, slots=True)
class Ways:
    """What all groups of a door use. `cancel` stops requests at a replica and waits for nothing."""

    stream: SharedStream
    chooser: ReplicaChooser
    cancel: Callable[[str, tuple[str, ...]], None]
    limits: FailoverLimits
    observer: FailoverObserver
    clock: Callable[[], float]
    quarantine: Quarantine = field(default_factory=Quarantine)


@dataclass(slots=True, eq=False)
class Leg:
    """One call to a replica, "" where Serve was to find one, with the trips it carries."""

    replica_id: str
    trips: list[Trip]
    number: int = -1
    began_at_s: float = 0.0
    has_spoken: bool = False


class Journey:
    """One group; `send` it, then read its `batches`."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self.legs: set[Leg] = set()
        self._inbox: asyncio.Queue[tuple[Leg, StepPart | ServingError]] = asyncio.Queue()
        self._timers: set[asyncio.TimerHandle] = set()

    def send(self, trips: Sequence[Trip]) -> None:
        """Each trip to the replica that is best for it."""
        ways = self._ways
        placements = ways.chooser.place([trip.request for trip in trips])
        if placements is None:
            self._begin(Leg("", list(trips)))
            return
        for placement in placements:
            ways.observer.placed(placement.why, 1)
        for replica_id, places in split(placements).items():
            self._begin(Leg(replica_id, [trips[place] for place in places]))

    def tell(self, leg: Leg, news: StepPart | ServingError) -> None:
        """Something has come of a leg."""
        if leg in self.legs:
            self._inbox.put_nowait((leg, news))

    async def batches(self) -> AsyncIterator[TokenBatch]:
        """What comes of all legs, until no trip is left."""
        while self.legs:
            leg, news = await self._inbox.get()
            if leg not in self.legs:
                continue
            deltas = self._take(leg, news)
            if deltas:
                yield TokenBatch(tuple(deltas))

    def cancel(self, request_id: str) -> None:
        """See Failover.cancel."""
        for leg in self.legs:
            ids = []
            for trip in leg.trips:
                if trip.request.request_id.partition("~")[0] == request_id and not trip.is_over:
                    trip.is_cancelled = True
                    ids.append(trip.request.request_id)
            if ids:
                self._ways.cancel(leg.replica_id, tuple(ids))

    def close(self) -> None:
        """The reader has left or has everything."""
        for timer in self._timers:
            timer.cancel()
        for leg in tuple(self.legs):
            self._end(leg)

    def _begin(self, leg: Leg) -> None:
        ways = self._ways
        leg.began_at_s = ways.clock()
        self.legs.add(leg)
        requests = tuple(trip.request for trip in leg.trips)
        leg.number = ways.stream.begin(leg.replica_id, requests, self._listener(leg))
        if not leg.replica_id:
            is_resumed = any(trip.attempt for trip in leg.trips)
            limits = ways.limits
            wait_s = limits.resume_wait_s if is_resumed else limits.wait_s
            loop = asyncio.get_running_loop()
            self._timers.add(loop.call_later(wait_s, self._require_replica, leg))

    def _listener(self, leg: Leg) -> Tell:
        return lambda news: self.tell(leg, news)

    def _require_replica(self, leg: Leg) -> None:
        if leg in self.legs and not leg.has_spoken:
            self._ways.stream.take_back(leg.number)
            for trip in leg.trips:
                # Nobody has had it: there is nothing to try again.
                trip.is_cancelled = True
            self.tell(leg, NotReady(_NOBODY))

    def _take(self, leg: Leg, news: StepPart | ServingError) -> list[TokenDelta]:
        leg.has_spoken = True
        if isinstance(news, ServingError):
            return self._lose(leg, [(trip, news) for trip in leg.trips], is_leg_over=True)
        deltas: list[TokenDelta] = []
        lost: list[tuple[Trip, ServingError]] = []
        for delta in news.deltas:
            trip = leg.trips[delta.index]
            before, was_suspect = trip.num_tokens_left, trip.strikes > 0
            if isinstance(delta.error, _RETRIED) and not trip.is_over:
                lost.append((trip, delta.error))
                continue
            told = trip.take(delta)
            self._ways.chooser.done(leg.replica_id, before - trip.num_tokens_left)
            if was_suspect and (trip.is_over or not trip.strikes):
                self._ways.quarantine.leave(trip)
            if told is not None:
                deltas.append(told)
        if lost:
            deltas += self._lose(leg, lost, is_leg_over=False)
        if news.is_last:
            error = EngineFailed(_UNFINISHED)
            deltas += self._lose(leg, [(trip, error) for trip in leg.trips], is_leg_over=True)
        return deltas

    def _lose(
        self, leg: Leg, lost: Sequence[tuple[Trip, ServingError]], *, is_leg_over: bool
    ) -> list[TokenDelta]:
        """Trips of a leg end there; those that are not over go on elsewhere, or have an error."""
        ways = self._ways
        left = [(trip, error) for trip, error in lost if not trip.is_over]
        if is_leg_over:
            self._end(leg)
        if not left:
            return []
        is_planned = ways.chooser.is_drained(leg.replica_id)
        if is_leg_over or len(left) == sum(not trip.is_over for trip in leg.trips):
            # Not where others of the leg go on: then the request failed, and not the replica.
            ways.chooser.suspect(leg.replica_id)
        last: list[TokenDelta] = []
        again: list[Trip] = []
        for trip, error in left:
            if trip.strikes:
                ways.quarantine.leave(trip)
            if not is_leg_over:
                ways.chooser.done(leg.replica_id, trip.num_tokens_left)
            fate = trip.lost(error, ways.limits.max_attempts, is_planned=is_planned)
            again += fate.trips
            last += [] if fate.last is None else [fate.last]
            ways.observer.lost(error.code, 1)
        _LOG.warning("%d requests lost their replica, %d go on: %s", len(left), len(again), error)
        if again:
            self._send_again(again)
        return last

    def _send_again(self, trips: list[Trip]) -> None:
        """At once the first time; then after longer and longer pauses, as nobody may be there."""
        attempt = max(trip.attempt for trip in trips)
        if attempt == 1:
            self._resend(trips)
            return
        pausing = Leg("", trips)
        self.legs.add(pausing)
        pause_s = min(_FIRST_PAUSE_S * 2 ** (attempt - 2), _MAX_PAUSE_S)
        self._timers.add(asyncio.get_running_loop().call_later(pause_s, self._go_on, pausing))

    def _go_on(self, pausing: Leg) -> None:
        if pausing in self.legs:
            self.legs.discard(pausing)
            trips = [trip for trip in pausing.trips if not trip.is_cancelled]
            if trips:
                self._resend(trips)
            else:
                self._wake(pausing)

    def _resend(self, trips: Sequence[Trip]) -> None:
        """Those that may have killed an engine go alone, one after the other."""
        harmless = [trip for trip in trips if not trip.strikes]
        if harmless:
            self.send(harmless)
        for trip in trips:
            if trip.strikes:
                waiting = Leg("", [trip])
                self.legs.add(waiting)
                self._ways.quarantine.enter(trip, partial(self._let_in, trip, waiting))

    def _let_in(self, trip: Trip, waiting: Leg) -> None:
        self.legs.discard(waiting)
        if trip.is_cancelled:
            self._ways.quarantine.leave(trip)
            self._wake(waiting)
        else:
            self.send([trip])

    def _wake(self, leg: Leg) -> None:
        """Nobody waits for the trips of a leg any more, but the reader for news."""
        self._inbox.put_nowait((leg, NotReady(_NOBODY)))

    def _end(self, leg: Leg) -> None:
        ways = self._ways
        self.legs.discard(leg)
        ways.stream.end(leg.number)
        for trip in leg.trips:
            if trip.strikes:
                ways.quarantine.leave(trip)
            ways.chooser.done(leg.replica_id, trip.num_tokens_left)
