"""A group's requests over as many replicas as it takes, as one stream.

generate --> place --> a leg to each replica --> deltas, as the reader knows their requests
               ^                 |
               `---- what was lost goes on elsewhere, behind the tokens that are there

`Trip` knows what is left of a request, `Journey` who is under way; here is who hangs, and who hears
of cancellations.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping

from app.journey import Journey, Leg, Ways
from app.trip import Trip
from contracts.errors import EngineFailed
from contracts.generation import GenerateRequest, TokenBatch

_WATCHES_A_BOUND = 8
_UNTIL_HEARD_S = 600.0


class Failover:
    """Sends groups and follows them."""

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._journeys: set[Journey] = set()
        self._by_request: dict[str, Journey] = {}
        self._heard_at_s: dict[str, float] = {}
        self._hung: set[str] = set()

    def __repr__(self) -> str:
        return f"<Failover {len(self._journeys)} groups>"

    async def generate(self, requests: tuple[GenerateRequest, ...]) -> AsyncIterator[TokenBatch]:
        """See Dispatcher."""
        journey = Journey(self._ways)
        self._journeys.add(journey)
        self._by_request |= dict.fromkeys((r.request_id for r in requests), journey)
        try:
            journey.send([Trip.first(index, request) for index, request in enumerate(requests)])
            async for batch in journey.batches():
                yield batch
        finally:
            self._journeys.discard(journey)
            for request in requests:
                self._by_request.pop(request.request_id, None)
            journey.close()

    def cancel(self, request_ids: Iterable[str]) -> None:
        """Stop these requests wherever they run, and let them go nowhere else."""
        for request_id in request_ids:
            if (journey := self._by_request.get(request_id)) is not None:
                journey.cancel(request_id)

    def heard(self, replica_id: str, load_tokens: int | None = None) -> None:
        """A message has come from there; what the replica has to do, if it says so."""
        if load_tokens is not None:
            self._ways.chooser.told(replica_id, load_tokens)
        self._heard_at_s[replica_id] = self._ways.clock()
        if replica_id in self._hung:
            self._hung.discard(replica_id)
            self._ways.chooser.trust(replica_id)

    async def watch(self) -> None:
        """Take the requests away from replicas that hang, until cancelled."""
        while True:
            await asyncio.sleep(self._ways.limits.hang_after_s / _WATCHES_A_BOUND)
            self.give_up_silent()

    def give_up_silent(self) -> list[str]:
        """Replicas that hang lose their requests: those whose streams have said nothing for too
        long while another's did, and those that have not even reported while another did. One
        that reports may be at a long prompt, and another that is idle would be no quicker.

        Where nobody says anything it is this process that was held up, or there is no better place.
        """
        now_s, bound_s = self._ways.clock(), self._ways.limits.hang_after_s
        seen_at_s = self._ways.chooser.seen_at_s()
        self._heard_at_s = {r: at_s for r, at_s in self._heard_at_s.items() if r in seen_at_s}
        hung = self._silent_since(self._heard_at_s, now_s, bound_s)
        hung |= self._silent_since(seen_at_s, now_s, bound_s)
        for replica_id in hung:
            self._give_up(replica_id)
        return sorted(hung)

    def _silent_since(
        self, signs_at_s: Mapping[str, float], now_s: float, bound_s: float
    ) -> set[str]:
        """Replicas with requests and no sign for `bound_s`, where another has just given one."""
        if not any(now_s - at_s < bound_s / 2 for at_s in signs_at_s.values()):
            return set()
        return {
            leg.replica_id
            for leg in self._legs()
            if leg.replica_id
            and now_s - max(leg.began_at_s, signs_at_s.get(leg.replica_id, 0.0)) > bound_s
        }

    def _give_up(self, replica_id: str) -> None:
        self._hung.add(replica_id)
        self._ways.chooser.suspect(replica_id, _UNTIL_HEARD_S)
        for journey in self._journeys:
            for leg in journey.legs:
                if leg.replica_id == replica_id:
                    ids = tuple(trip.request.request_id for trip in leg.trips if not trip.is_over)
                    self._ways.cancel(replica_id, ids)
                    journey.tell(leg, EngineFailed("The engine hangs."))

    def _legs(self) -> list[Leg]:
        return [leg for journey in self._journeys for leg in journey.legs]
