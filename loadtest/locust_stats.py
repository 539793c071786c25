"""What locust shows while it runs: every request, and beside it first tokens, gaps and speeds.

Requests are an entry an adapter. The others are entries a group, of a type of their own, and no
part of locust's sum over all: TTFT and GAP in milliseconds, TOK/S in tokens a second. A request's
"content size" is its tokens.
"""

from collections.abc import Callable

from locust.env import Environment

from loadtest.outcome import Outcome
from loadtest.summary import MOST_NAMED, OTHERS
from loadtest.tally import Deed

TTFT, GAP, SPEED, PUBLISH, KILL = "TTFT", "GAP", "TOK/S", "PUBLISH", "KILL"


class RequestFailed(Exception):
    """A request's code, as locust lists failures."""


def notify(
    environment: Environment, protocol: str, name_of: Callable[[int], str], outcome: Outcome
) -> None:
    """Count one outcome."""
    adapter = name_of(outcome.adapter) if outcome.adapter < MOST_NAMED else OTHERS
    environment.events.request.fire(
        request_type=protocol.upper(),
        name=adapter or "base",
        response_time=outcome.total_s * 1e3,
        response_length=outcome.num_tokens,
        exception=None if outcome.is_ok else RequestFailed(outcome.code),
        context={},
    )
    entries = environment.stats.entries
    if outcome.ttft_s is not None:
        entries[outcome.group, TTFT].log(outcome.ttft_s * 1e3, 0)
    for gap_s in outcome.gaps_s:
        entries[outcome.group, GAP].log(gap_s * 1e3, 0)
    if (speed := outcome.tokens_per_s) is not None:
        entries[outcome.group, SPEED].log(speed, outcome.num_tokens)


def notify_deed(environment: Environment, deed: Deed) -> None:
    """Count something that was done to the server."""
    entry = environment.stats.entries["server", deed.kind.upper()]
    entry.log(deed.seconds * 1e3, 0)
    if deed.error:
        entry.log_error(deed.error)
