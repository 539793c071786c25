"""Settings of the choice among replicas."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoutingConfig:
    """How a door chooses replicas.

    No replica gets more than `balance` times the mean load, or `slack_requests` requests of the
    window's mean cost where that is more. An adapter has one home; while its homes are over the
    bound for `grow_after_s` it gets twice as many, at most `max_homes`, and loses one for every
    `shrink_after_s` without that. A report counts for `report_max_age_s`; what a door has sent
    somewhere counts as resident for `learned_s` without a report that says so. Requests with the
    same first `prefix_tokens` tokens like the same replica where their adapter leaves the choice,
    0 for never; `max_prefixes` are remembered. A replica that lost or held up a request is left
    alone for `suspect_s`.
    """

    balance: float = 1.25
    slack_requests: float = 4.0
    max_homes: int = 64
    grow_after_s: float = 0.5
    shrink_after_s: float = 30.0
    report_max_age_s: float = 10.0
    learned_s: float = 10.0
    prefix_tokens: int = 64
    max_prefixes: int = 65_536
    suspect_s: float = 5.0

    def __post_init__(self) -> None:
        if not 1 < self.balance < float("inf"):
            raise ValueError(f"balance must be more than 1 and finite, not {self.balance}")
        if self.max_homes < 1:
            raise ValueError(f"max_homes must be at least 1, not {self.max_homes}")
        if not self.shrink_after_s > 0:
            raise ValueError(f"shrink_after_s must be more than 0, not {self.shrink_after_s}")
        for name in (
            "slack_requests",
            "grow_after_s",
            "shrink_after_s",
            "report_max_age_s",
            "learned_s",
            "prefix_tokens",
            "max_prefixes",
            "suspect_s",
        ):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 0 and finite, not {getattr(self, name)}")
