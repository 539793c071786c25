"""What became of one request, and the stopwatch that finds it out."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from loadtest.plan import Ask

OK = "ok"
CUT_OFF = "cut_off"
"""The run ended before the answer did."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request. `at_s` is when it should have been sent, after the start of the run.

    Times are counted from `at_s`, not from when it was sent, `lag_s` later: who had to wait in the
    load generator has waited. `ttft_s` and `total_s` end with the first token and the last byte;
    a request without tokens has no `ttft_s`. `gaps_s` lie between events that bring tokens.
    `code` is "ok", or what went wrong.
    """

    at_s: float
    group: str
    adapter: int
    lag_s: float
    total_s: float
    ttft_s: float | None = None
    num_tokens: int = 0
    gaps_s: tuple[float, ...] = ()
    code: str = OK

    @property
    def is_ok(self) -> bool:
        """The answer came whole."""
        return self.code == OK

    @property
    def ended_s(self) -> float:
        """When it was over, after the start of the run."""
        return self.at_s + self.total_s

    @property
    def tokens_per_s(self) -> float | None:
        """Speed behind the first token; None for fewer than two tokens."""
        if self.ttft_s is None or self.num_tokens < 2 or self.total_s <= self.ttft_s:
            return None
        return (self.num_tokens - 1) / (self.total_s - self.ttft_s)

    def to_json(self) -> dict[str, Any]:
        """As a worker sends it to its master."""
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Outcome":
        """What `to_json` has made, after a journey that knows no tuples."""
        return cls(**{**fields, "gaps_s": tuple(fields["gaps_s"])})


@dataclass(slots=True)
class Stopwatch:
    """Follows one request. `began_s` of `clock` is the start of the run, `at_s` is after it."""

    clock: Clock
    began_s: float
    at_s: float
    num_events: int = 0
    num_tokens: int = 0
    _lag_s: float = 0.0
    _first_s: float | None = None
    _last_s: float = 0.0
    _gaps_s: list[float] = field(default_factory=list)

    def sent(self) -> None:
        """The request is on its way."""
        self._lag_s = self._elapsed_s()

    def token_event(self) -> None:
        """An event with new tokens has come."""
        now_s = self._elapsed_s()
        if self._first_s is None:
            self._first_s = now_s
        else:
            self._gaps_s.append(now_s - self._last_s)
        self._last_s = now_s
        self.num_events += 1

    def usage(self, num_tokens: int) -> None:
        """The answer has said how many tokens it has."""
        self.num_tokens = num_tokens

    def stop(self, ask: Ask, code: str = OK) -> Outcome:
        """The end, for better or worse. Without a usage every event counts as a token."""
        return Outcome(
            at_s=self.at_s,
            group=ask.group,
            adapter=ask.adapter,
            lag_s=self._lag_s,
            total_s=self._elapsed_s(),
            ttft_s=self._first_s,
            num_tokens=self.num_tokens or self.num_events,
            gaps_s=tuple(self._gaps_s),
            code=code,
        )

    def _elapsed_s(self) -> float:
        return self.clock() - self.began_s - self.at_s
