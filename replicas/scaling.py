"""How many replicas there are, and how they come and go."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScalingConfig:
    """`max_replicas` None keeps the number that the replica's settings say.

    Otherwise there are so many that each has about `target_load_tokens` to do, from `min_replicas`
    (0: none while nobody asks) to `max_replicas`; the number grows once that has been so for
    `upscale_delay_s` and shrinks after `downscale_delay_s`. A replica that is to go gets no new
    requests and has `drain_s` for those it has; what is left then goes on elsewhere. Every
    `health_check_period_s` each is asked whether it is well, for at most `health_check_timeout_s`.
    """

    min_replicas: int = 1
    max_replicas: int | None = None
    target_load_tokens: int = 8192
    upscale_delay_s: float = 10.0
    downscale_delay_s: float = 300.0
    drain_s: float = 20.0
    health_check_period_s: float = 2.0
    health_check_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.min_replicas < 0:
            raise ValueError(f"min_replicas must not be negative, not {self.min_replicas}")
        if self.max_replicas is not None and self.max_replicas < max(1, self.min_replicas):
            raise ValueError(
                f"max_replicas ({self.max_replicas}) must be at least 1 and min_replicas"
            )
        if self.target_load_tokens < 1:
            raise ValueError(
                f"target_load_tokens must be at least 1, not {self.target_load_tokens}"
            )
        for name in ("upscale_delay_s", "downscale_delay_s", "drain_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, not {getattr(self, name)}")
        for name in ("health_check_period_s", "health_check_timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")


def replicas_for(load_tokens: float, target_load_tokens: int) -> int:
    """As many as the load asks for; none where there is none."""
    return math.ceil(load_tokens / target_load_tokens)
