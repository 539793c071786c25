"""What a run has seen: outcomes, what was done to the server, and what the server used."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from loadtest.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that was done to the server: `what` to whom, in `seconds`; `error` if it failed."""

    at_s: float
    kind: str
    what: str
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the processes of one role used at one time."""

    at_s: float
    role: str
    rss_bytes: int
    num_fds: int
    num_threads: int


@dataclass(slots=True)
class Tally:
    """Grows while a run lasts. A worker's goes to its master piece by piece."""

    outcomes: list[Outcome] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)

    def take(self) -> list[dict[str, Any]]:
        """The outcomes since the last time, to be sent; they are kept here no longer."""
        taken, self.outcomes = self.outcomes, []
        return [outcome.to_json() for outcome in taken]

    def add(self, sent: Iterable[dict[str, Any]]) -> None:
        """What a worker has taken."""
        self.outcomes += map(Outcome.from_json, sent)
