"""Charging windows to the keys of their callers, and giving back what was not used.

A window's keys are charged in one call. Ends are collected and sent in the background; until one
is acknowledged it also goes ahead of the next charge of its key, so that a caller who waits for
each answer before asking again never meets its own last request.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from app.ask import Ask
from app.door_metrics import DoorMetrics
from app.quota import (
    Bill,
    Charge,
    Limit,
    Outcome,
    Release,
    Verdict,
    charge_of,
    error_of,
    standing_of,
)
from app.quota_ledger import MemoryLedger, QuotaLedger
from app.request_observer import RequestEnd
from contracts.access import Caller, Quota
from contracts.errors import InvalidRequest, StoreUnavailable

_LOG = logging.getLogger(__name__)
_NOT_AWAY = -math.inf
_MAX_BILLS = 256
_MAX_RELEASES = 256


@dataclass(slots=True)
class _Held:
    """A charge under way or granted. `used_tokens` is set once the request has ended."""

    charge: Charge
    caller: Caller
    is_charging: bool = True
    used_tokens: int | None = None


class Quotas:
    """Keeps the callers of one door within their quotas, in `ledger`, as a RequestObserver too.

    While that does not answer within `timeout_s`, the door counts by itself in `own`, with the
    same limits, and tries the ledger again after `pause_s`. At most `max_releases` ends wait for
    the ledger; of any more it learns when their leases end.
    """

    def __init__(
        self,
        ledger: QuotaLedger,
        own: MemoryLedger,
        *,
        timeout_s: float = 0.25,
        pause_s: float = 0.5,
        max_releases: int = 1 << 16,
        metrics: DoorMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._own = own
        self._timeout_s = timeout_s
        self._pause_s = pause_s
        self._max_releases = max_releases
        self._metrics = metrics or DoorMetrics()
        self._clock = clock
        self._away_until_s = _NOT_AWAY
        self._held: dict[str, _Held] = {}
        self._ends: dict[str, dict[str, tuple[Release, Quota]]] = {}
        self._num_ends = 0
        self._sender: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Quotas {len(self._held)} requests held, {self._num_ends} ends to send>"

    async def charge(self, asks: Sequence[Ask]) -> Mapping[str, Verdict]:
        """The verdict on each ask whose key has a quota, by request id."""
        verdicts: dict[str, Verdict] = {}
        charges: dict[str, tuple[Caller, list[Charge]]] = {}
        for ask in asks:
            if ask.caller.quota.is_unlimited:
                continue
            try:
                charge = _charge_of(ask)
            except InvalidRequest as error:
                verdicts[ask.request_id] = error
                continue
            self._held[ask.request_id] = _Held(charge, ask.caller)
            charges.setdefault(ask.caller.key_id, (ask.caller, []))[1].append(charge)
        bills = [
            Bill(key_id, caller.quota, self._ends_of(key_id), tuple(wanted))
            for key_id, (caller, wanted) in charges.items()
        ]
        if not bills:
            return verdicts
        try:
            settled = await self._settle(bills)
        except asyncio.CancelledError:
            # Perhaps it was charged: what ends now, or has, is given back.
            for bill in bills:
                for charge in bill.charges:
                    self._granted(charge.request_id)
            raise
        for bill, outcomes in zip(bills, settled, strict=True):
            for charge, outcome in zip(bill.charges, outcomes, strict=True):
                verdicts[charge.request_id] = self._conclude(charge, outcome, bill.quota)
        return verdicts

    def began(self, request_id: str, caller: Caller) -> None:
        """See RequestObserver."""

    def generated(self, request_id: str, caller: Caller, num_tokens: int, gap_s: float) -> None:
        """See RequestObserver."""

    def ended(self, request_id: str, caller: Caller, model: str, end: RequestEnd) -> None:
        """See RequestObserver."""
        held = self._held.get(request_id)
        if held is not None:
            held.used_tokens = end.num_prompt_tokens + end.num_generated_tokens
            if not held.is_charging:
                self._release(request_id)

    async def aclose(self) -> None:
        """Send what has ended, for at most the time of one call."""
        if self._sender is not None:
            await asyncio.wait({self._sender}, timeout=self._timeout_s)
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)

    async def _settle(self, bills: Sequence[Bill]) -> list[list[Outcome]]:
        if self._may_ask():
            try:
                async with asyncio.timeout(self._timeout_s):
                    outcomes = await self._ledger.settle(bills)
            except (StoreUnavailable, TimeoutError) as error:
                self._lost(error)
            except Exception as error:
                _LOG.exception("the quota ledger failed")
                self._lost(error)
            else:
                self._acknowledge(bills)
                return outcomes
        self._metrics.quota_fallbacks.inc(sum(len(bill.charges) for bill in bills))
        return self._own.settle_now([replace(bill, releases=()) for bill in bills])

    def _may_ask(self) -> bool:
        """Whether the ledger is there; once in a pause somebody finds out whether it is again."""
        if self._away_until_s == _NOT_AWAY:
            return True
        now_s = self._clock()
        if now_s < self._away_until_s:
            return False
        self._away_until_s = now_s + self._pause_s
        return True

    def _lost(self, error: Exception) -> None:
        if self._away_until_s == _NOT_AWAY:
            _LOG.warning("this door counts quotas by itself: %s", str(error) or "no answer in time")
        self._away_until_s = self._clock() + self._pause_s

    def _conclude(self, charge: Charge, outcome: Outcome, quota: Quota) -> Verdict:
        if outcome.refused is not Limit.NONE:
            del self._held[charge.request_id]
            self._metrics.rate_limited.labels(outcome.refused.name.lower()).inc()
            return error_of(outcome, quota)
        self._granted(charge.request_id)
        return standing_of(outcome, quota)

    def _granted(self, request_id: str) -> None:
        held = self._held[request_id]
        held.is_charging = False
        if held.used_tokens is not None:
            self._release(request_id)

    def _release(self, request_id: str) -> None:
        held = self._held.pop(request_id)
        charge, key_id, quota = held.charge, held.caller.key_id, held.caller.quota
        end = Release(request_id, charge.num_streams, charge.num_tokens, held.used_tokens or 0)
        # Whoever granted it; the other one knows nothing of it and does nothing.
        self._own.settle_now([Bill(key_id, quota, (end,))])
        if self._num_ends < self._max_releases:
            self._ends.setdefault(key_id, {})[request_id] = (end, quota)
            self._num_ends += 1
        if self._sender is None:
            self._sender = asyncio.get_running_loop().create_task(self._send())
            self._sender.add_done_callback(self._sent)

    def _ends_of(self, key_id: str) -> tuple[Release, ...]:
        ends = list(self._ends.get(key_id, {}).values())[:_MAX_RELEASES]
        return tuple(end for end, _ in ends)

    async def _send(self) -> None:
        """Until nothing is left; what is added meanwhile goes with the next call."""
        while self._ends:
            keys = list(self._ends)[:_MAX_BILLS]
            bills = [
                Bill(key_id, next(iter(self._ends[key_id].values()))[1], self._ends_of(key_id))
                for key_id in keys
            ]
            await asyncio.sleep(max(0.0, self._away_until_s - self._clock()))
            try:
                async with asyncio.timeout(self._timeout_s):
                    await self._ledger.settle(bills)
            except (StoreUnavailable, TimeoutError) as error:
                self._lost(error)
            else:
                self._acknowledge(bills)

    def _sent(self, sender: "asyncio.Task[None]") -> None:
        self._sender = None
        if not sender.cancelled() and sender.exception() is not None:
            _LOG.error("could not give quotas back", exc_info=sender.exception())

    def _acknowledge(self, bills: Sequence[Bill]) -> None:
        """The ledger has answered, and knows of these ends."""
        if self._away_until_s != _NOT_AWAY:
            _LOG.info("quotas are counted in the store again")
            self._away_until_s = _NOT_AWAY
        for bill in bills:
            ends = self._ends.get(bill.key_id, {})
            for release in bill.releases:
                if ends.pop(release.request_id, None) is not None:
                    self._num_ends -= 1
            if not ends:
                self._ends.pop(bill.key_id, None)


def _charge_of(ask: Ask) -> Charge:
    return charge_of(
        ask.request_id,
        ask.num_input_tokens,
        ask.max_new_tokens,
        ask.sampling.n,
        ask.caller.quota,
    )
