"""What is simulated: how many replicas and doors, how they hear of each other, what breaks when."""

from dataclasses import dataclass, field
from typing import Literal

from routing.config import RoutingConfig
from routing.simulator.profile import Profile


@dataclass(frozen=True, slots=True)
class Event:
    """At a time, `replica` is killed, or one more is there."""

    at_s: float
    what: Literal["kill", "add"]
    replica: int = 0


@dataclass(frozen=True, slots=True)
class Scene:
    """A system. Replicas report every `report_s`, a tenth more or less; the controller looks every
    `controller_s` and tells the doors, which hear it up to `delay_s` later. It notices a loss
    within `notice_s`; a door whose requests break notices after `break_s`.
    """

    profile: Profile
    num_replicas: int
    num_doors: int
    events: tuple[Event, ...] = ()
    config: RoutingConfig = field(default_factory=RoutingConfig)
    report_s: float = 1.0
    controller_s: float = 0.5
    delay_s: float = 0.1
    notice_s: float = 2.0
    break_s: float = 0.05

    def __post_init__(self) -> None:
        if self.num_replicas < 1 or self.num_doors < 1:
            raise ValueError("there must be at least one replica and one door")
        for event in self.events:
            if event.what == "kill" and not 0 <= event.replica < self.num_replicas:
                raise ValueError(f"there is no replica {event.replica} to kill")

    @property
    def max_replicas(self) -> int:
        """Those there are and those to come."""
        return self.num_replicas + sum(event.what == "add" for event in self.events)
