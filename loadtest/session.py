"""One process's part of a run: sends what the plan says when it says so, and keeps what came.

Waiting and spawning are the caller's, so that greenlets, threads and a fake clock do alike.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from loadtest.control import Models
from loadtest.outcome import CUT_OFF, Clock, Outcome, Stopwatch
from loadtest.plan import Arrival, Ask
from loadtest.prompts import token_ids
from loadtest.target import Client, Request

TOKEN_IDS = range(10, 200)
"""Ids that every vocabulary has."""

Keys = Callable[[str], str]
Notice = Callable[[Outcome], None]


@dataclass(slots=True)
class Session:
    """Asks through `client` on behalf of the plan; `notice` hears of every outcome.

    `keys` gives a group's API key, `block_tokens` is how much of a prompt one shared block is.
    """

    client: Client
    models: Models
    keys: Keys
    clock: Clock
    notice: Notice
    block_tokens: int = 64
    began_s: float = 0.0
    _open: dict[int, tuple[Stopwatch, Ask]] = field(default_factory=dict)
    _num_asked: int = 0

    def begin(self) -> None:
        """Time runs from here."""
        self.began_s = self.clock()

    @property
    def elapsed_s(self) -> float:
        """Since the beginning."""
        return self.clock() - self.began_s

    def ask(self, ask: Ask, at_s: float | None = None) -> str:
        """One request to its end; its code. Its times count from `at_s`, or else from now."""
        number, self._num_asked = self._num_asked, self._num_asked + 1
        watch = Stopwatch(self.clock, self.began_s, self.elapsed_s if at_s is None else at_s)
        self._open[number] = watch, ask
        prompt = token_ids(ask, self.block_tokens, TOKEN_IDS)
        request = Request(
            self.models.name_of(ask.adapter),
            tuple(prompt),
            ask.num_answer_tokens,
            self.keys(ask.group),
        )
        code = self.client.stream(request, watch)
        # Whoever has been cut off meanwhile has its outcome already.
        if self._open.pop(number, None) is not None:
            self.notice(watch.stop(ask, code))
        return code

    def follow(
        self,
        arrivals: Iterable[Arrival],
        sleep: Callable[[float], None],
        spawn: Callable[[Arrival], None],
    ) -> None:
        """Hand each arrival to `spawn` at its time, without looking at those before."""
        for arrival in arrivals:
            early_s = arrival.at_s - self.elapsed_s
            if early_s > 0:
                sleep(early_s)
            spawn(arrival)

    def cut_off(self) -> None:
        """Whatever still runs has failed: nobody waits for it any longer."""
        while self._open:
            _, (watch, ask) = self._open.popitem()
            self.notice(watch.stop(ask, CUT_OFF))
