"""What a key's quota lets through: the arithmetic, and a slow model of it all. Pure.

Rates are kept as in the generic cell rate algorithm (ITU-T I.371): one number a rate, the time at
which its bucket will be full again. A bucket holds a minute's allowance, so an idle key may use a
minute's worth at once and saves no more. Concurrent streams are leases with an end of their own.

Times are whole microseconds: the script in Redis and this model count alike, to the last digit.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from contracts.access import Quota
from contracts.errors import InvalidRequest, RateLimited, ServingError

PERIOD_US = 60_000_000
STREAM_WAIT_US = 1_000_000
"""When to try again where all streams are taken: nobody knows when one ends."""


class Limit(IntEnum):
    """What refused a request."""

    NONE = 0
    REQUESTS = 1
    TOKENS = 2
    STREAMS = 3


@dataclass(frozen=True, slots=True)
class Charge:
    """What a request needs. `num_tokens` is the most that it may use, prompt included."""

    request_id: str
    num_streams: int
    num_tokens: int


@dataclass(frozen=True, slots=True)
class Release:
    """The end of a request that was charged: it has used `used_tokens` of what it had reserved."""

    request_id: str
    num_streams: int
    num_tokens: int
    used_tokens: int


@dataclass(frozen=True, slots=True)
class Bill:
    """All of one key that travels together; releases count first."""

    key_id: str
    quota: Quota
    releases: tuple[Release, ...] = ()
    charges: tuple[Charge, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a charge. `wait_us` is when a refused one would pass.

    `requests_us` and `tokens_us` are how long each bucket takes to be full again, after the charge.
    """

    refused: Limit
    wait_us: int
    requests_us: int
    tokens_us: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a key has left, for the caller to see; None where there is no limit."""

    max_requests: int | None
    remaining_requests: int
    reset_requests_s: float
    max_tokens: int | None
    remaining_tokens: int
    reset_tokens_s: float


class OverQuota(RateLimited):
    """RateLimited by a quota of the key, of which `standing` tells what is left."""

    def __init__(
        self,
        message: str,
        param: str | None = None,
        retry_after_s: float = 1.0,
        standing: Standing | None = None,
    ) -> None:
        super().__init__(message, param, retry_after_s)
        # All of it, so that the error survives a pickle.
        self.args = (message, param, retry_after_s, standing)
        self.standing = standing


Verdict = Standing | ServingError
"""What a caller has left after its request was admitted, or why it was not."""


def tightest(standings: Iterable[Standing | None]) -> Standing | None:
    """What is left after several charges of one key."""
    found = [standing for standing in standings if standing is not None]
    return min(found, key=lambda s: (s.remaining_requests, s.remaining_tokens), default=None)


def charge_of(
    request_id: str, num_prompt_tokens: int, max_tokens: int, num_choices: int, quota: Quota
) -> Charge:
    """What to reserve: prompt and answer, at most a whole bucket.

    What an answer uses above that is charged at its end. Raises InvalidRequest where no bucket is
    large enough for the request to start.
    """
    least = num_prompt_tokens + num_choices
    if quota.tokens_per_min is not None and least > quota.tokens_per_min:
        raise InvalidRequest(
            f"The request needs {least} tokens; the API key allows {quota.tokens_per_min} a minute."
        )
    if quota.max_streams is not None and num_choices > quota.max_streams:
        raise InvalidRequest(
            f"The request asks for {num_choices} answers at a time; the API key allows "
            f"{quota.max_streams}.",
            "n",
        )
    if quota.requests_per_min is not None and quota.requests_per_min < 1:
        raise InvalidRequest("The API key allows no requests.")
    num_tokens = num_prompt_tokens + max_tokens * num_choices
    return Charge(request_id, num_choices, min(num_tokens, quota.tokens_per_min or num_tokens))


def cost_us(amount: int, limit_per_min: int | None) -> int:
    """How much later the bucket is full for `amount` taken from it."""
    return 0 if limit_per_min is None else math.ceil(amount * PERIOD_US / limit_per_min)


def error_of(outcome: Outcome, quota: Quota) -> OverQuota:
    """How a refused request is answered."""
    what = {
        Limit.REQUESTS: f"{quota.requests_per_min} requests a minute",
        Limit.TOKENS: f"{quota.tokens_per_min} tokens a minute",
        Limit.STREAMS: f"{quota.max_streams} answers at a time",
    }[outcome.refused]
    wait_s = outcome.wait_us / 1e6
    message = f"The API key allows {what}. Try again in {math.ceil(wait_s)} s."
    return OverQuota(message, None, wait_s, standing_of(outcome, quota))


def standing_of(outcome: Outcome, quota: Quota) -> Standing:
    """What is left after `outcome`."""
    return Standing(
        quota.requests_per_min,
        _left(outcome.requests_us, quota.requests_per_min),
        outcome.requests_us / 1e6,
        quota.tokens_per_min,
        _left(outcome.tokens_us, quota.tokens_per_min),
        outcome.tokens_us / 1e6,
    )


def _left(until_full_us: int, limit_per_min: int | None) -> int:
    if limit_per_min is None:
        return 0
    return max(0, (PERIOD_US - until_full_us) * limit_per_min // PERIOD_US)


@dataclass(slots=True)
class KeyUsage:
    """One key's state. The oracle of the script, and the buckets of a door without Redis."""

    requests_full_us: int = 0
    tokens_full_us: int = 0
    leases_us: dict[str, int] = field(default_factory=dict)

    def settle(self, bill: Bill, now_us: int, lease_us: int) -> list[Outcome]:
        """Take the releases, then each charge in turn; a refused one takes nothing.

        A charge that holds a lease already was charged before, and a release without one has been
        taken before: both count once however often they come.
        """
        self.requests_full_us = max(self.requests_full_us, now_us)
        self.tokens_full_us = max(self.tokens_full_us, now_us)
        self.leases_us = {id_: end for id_, end in self.leases_us.items() if end > now_us}
        for release in bill.releases:
            self._release(release, bill.quota, now_us)
        return [self._charge(charge, bill.quota, now_us, lease_us) for charge in bill.charges]

    @property
    def idle_at_us(self) -> int:
        """From then on it is as if the key had never been used."""
        return max(self.requests_full_us, self.tokens_full_us, *self.leases_us.values(), 0)

    def _release(self, release: Release, quota: Quota, now_us: int) -> None:
        names = _leases(release.request_id, release.num_streams)
        held = [self.leases_us.pop(name, None) for name in names]
        if held[0] is not None:
            back = cost_us(release.num_tokens, quota.tokens_per_min)
            back -= cost_us(release.used_tokens, quota.tokens_per_min)
            self.tokens_full_us = max(self.tokens_full_us - back, now_us)

    def _charge(self, charge: Charge, quota: Quota, now_us: int, lease_us: int) -> Outcome:
        names = _leases(charge.request_id, charge.num_streams)
        requests_us = self.requests_full_us - now_us
        tokens_us = self.tokens_full_us - now_us
        if names[0] in self.leases_us:
            return Outcome(Limit.NONE, 0, requests_us, tokens_us)
        next_requests_us = requests_us + cost_us(1, quota.requests_per_min)
        next_tokens_us = tokens_us + cost_us(charge.num_tokens, quota.tokens_per_min)
        refused = Limit.NONE
        wait_us = max(0, next_requests_us - PERIOD_US, next_tokens_us - PERIOD_US)
        if next_requests_us > PERIOD_US:
            refused = Limit.REQUESTS
        elif next_tokens_us > PERIOD_US:
            refused = Limit.TOKENS
        elif quota.max_streams is not None and len(self.leases_us) + len(names) > quota.max_streams:
            refused, wait_us = Limit.STREAMS, STREAM_WAIT_US
        if refused is not Limit.NONE:
            return Outcome(refused, wait_us, requests_us, tokens_us)
        self.requests_full_us = now_us + next_requests_us
        self.tokens_full_us = now_us + next_tokens_us
        self.leases_us.update(dict.fromkeys(names, now_us + lease_us))
        return Outcome(Limit.NONE, 0, next_requests_us, next_tokens_us)


def _leases(request_id: str, num_streams: int) -> Sequence[str]:
    return [f"{request_id}/{number}" for number in range(num_streams)]
