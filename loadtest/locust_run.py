"""One process's run, and where users and events of locust find it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.pool import Group
from locust.env import Environment

from loadtest.control import Models
from loadtest.dialects import DIALECTS
from loadtest.http_client import HttpClient
from loadtest.locust_stats import notify
from loadtest.outcome import Outcome
from loadtest.plan import Plan, share
from loadtest.prompts import BLOCK_TOKENS
from loadtest.run_config import RunConfig
from loadtest.session import Session
from loadtest.tally import Tally
from loadtest.target import Client

_RUNS: WeakKeyDictionary[Environment, "Run"] = WeakKeyDictionary()
REFUSED_S = 0.5
"""How long a user who got no answer waits before asking again."""


@dataclass
class Run:
    """`index` of `count` processes that send. `others` are greenlets that end with the run."""

    config: RunConfig
    models: Models
    plan: Plan
    tally: Tally = field(default_factory=Tally)
    session: Session | None = None
    index: int = 0
    count: int = 1
    others: Group = field(default_factory=Group)
    _num_users: int = 0

    def begin(self, environment: Environment) -> None:
        """Connect, and start the clock."""
        self.session = Session(
            make_client(self.config),
            self.models,
            self.config.key_of,
            time.perf_counter,
            partial(self._note, environment),
            max(int(BLOCK_TOKENS / self.config.load.shrink), 1),
        )
        self.session.begin()

    def follow_arrivals(self) -> None:
        """This process's part of the plan, and the end of whatever takes longer than it may."""
        session = self.began()
        running = Group()
        mine = share(self.plan.arrivals, self.index, self.count)
        session.follow(mine, gevent.sleep, lambda a: running.spawn(session.ask, a.ask, a.at_s))
        if not running.join(timeout=self.config.drain_s):
            session.cut_off()
            running.kill(block=False)

    def next_user(self) -> int:
        """A number for one more of this process's users; no two processes give the same."""
        number, self._num_users = self._num_users, self._num_users + 1
        return number * self.count + self.index

    def ask_again(self, user: int, turn: int) -> None:
        """What a user does in its `turn`."""
        assert self.plan.crowd is not None
        if self.began().ask(self.plan.crowd.ask_of(user, turn)) != "ok":
            gevent.sleep(REFUSED_S)

    @property
    def is_over(self) -> bool:
        """No user begins anything any more."""
        return self.began().elapsed_s >= self.plan.duration_s

    def began(self) -> Session:
        """The session. Raises RuntimeError before the run has begun."""
        if self.session is None:
            raise RuntimeError("the run has not begun")
        return self.session

    def end(self) -> None:
        """Whatever still runs has failed."""
        self.others.kill(block=False)
        if self.session is not None:
            self.session.cut_off()
            self.session.client.close()

    def _note(self, environment: Environment, outcome: Outcome) -> None:
        self.tally.outcomes.append(outcome)
        notify(environment, self.config.protocol, self.models.name_of, outcome)


def make_client(config: RunConfig) -> Client:
    """The client of the protocol that was asked for. Raises ValueError for a bad URL."""
    if config.protocol == "grpc":
        from loadtest.grpc_client import GrpcClient, use_gevent

        use_gevent()
        return GrpcClient(config.grpc_address, config.timeout_s)
    return HttpClient(config.url, DIALECTS[config.api], config.timeout_s)


def set_run(environment: Environment, run: Run) -> None:
    """From now on `environment` has this run."""
    _RUNS[environment] = run


def run_of(environment: Environment) -> Run:
    """The run of an environment. Raises KeyError where nothing was prepared."""
    return _RUNS[environment]


def all_runs() -> list[Run]:
    """This process's runs: one, where locust has one environment."""
    return list(_RUNS.values())


def to_worker(run: Run) -> dict[str, Any]:
    """What a worker cannot know from the options: how many there are, and what was found out."""
    return {
        "count": run.count,
        "url": run.config.url,
        "num_users": run.config.load.num_users,
        "num_adapters": run.config.load.num_adapters,
        "base": run.models.base,
        "names": list(run.models.adapters),
    }


def models_from(sent: Mapping[str, Any]) -> Models:
    """The models that `to_worker` has sent."""
    return Models(sent["base"], tuple(sent["names"]))
