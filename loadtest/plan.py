"""What a run does, decided before it begins: requests at their times, users who ask again and
again, and what happens to the server meanwhile. Knows no clock and no server.

Adapters are numbers, 0 the most popular; `BASE` is the model without one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

BASE = -1
ALL = "all"

ActionKind = Literal["publish", "kill"]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request for exactly `num_answer_tokens` tokens; `group` is what its times count for.

    `blocks` are the parts of the prompt that it shares with every other one that begins with the
    same numbers; what is left of `num_prompt_tokens` is its own, decided by `seed`.
    """

    adapter: int
    num_prompt_tokens: int
    num_answer_tokens: int
    seed: int
    group: str = ALL
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that comes `at_s` seconds after the start, whatever became of those before."""

    at_s: float
    ask: Ask


@dataclass(frozen=True, slots=True)
class Action:
    """What happens to the server at `at_s`: adapter `number` is published anew, or a process is
    killed.
    """

    at_s: float
    kind: ActionKind
    number: int = 0


@dataclass(frozen=True, slots=True)
class Crowd:
    """`num_users` users of one group, each of whom asks again once it has its answer."""

    group: str
    num_users: int
    asks: tuple[Ask, ...]

    def ask_of(self, user: int, turn: int) -> Ask:
        """What a user asks next; the crowd goes through its asks in order, and then again."""
        return self.asks[(turn * self.num_users + user) % len(self.asks)]


@dataclass(frozen=True, slots=True)
class Plan:
    """`arrivals` and `actions` are in order of time; the crowd asks for `duration_s`."""

    duration_s: float
    arrivals: tuple[Arrival, ...] = ()
    crowd: Crowd | None = None
    actions: tuple[Action, ...] = ()

    @property
    def num_users(self) -> int:
        """Who asks again and again."""
        return self.crowd.num_users if self.crowd else 0

    @property
    def groups(self) -> tuple[str, ...]:
        """Every group that asks, in order of name."""
        found = {arrival.ask.group for arrival in self.arrivals}
        return tuple(sorted(found | ({self.crowd.group} if self.crowd else set())))


def share(items: Sequence[Arrival], index: int, count: int) -> tuple[Arrival, ...]:
    """What one of `count` processes sends; together they send everything, each at its time."""
    return tuple(items[index::count])
