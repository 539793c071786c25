"""Ray Serve's autoscaling by what replicas have to do, in tokens."""

import warnings
from typing import Any

from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy

from replicas.scaling import ScalingConfig, replicas_for

LOAD = "load_tokens"
"""What a replica calls its load where it reports it to the autoscaler."""
_METRICS_EVERY_S = 1.0
_LOOK_BACK_S = 3.0


class LoadPolicy:
    """Serve asks it every turn, and applies the delays and bounds of its configuration itself.

    It asks nobody where no replica runs and a call waits: then there must be one at once.
    """

    def __init__(self, target_load_tokens: int) -> None:
        self._target_load_tokens = target_load_tokens

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """The number of replicas for the load that they have reported."""
        loads = (context.aggregated_metrics or {}).get(LOAD, {})
        return replicas_for(sum(loads.values()), self._target_load_tokens), {}


def autoscaling(config: ScalingConfig) -> AutoscalingConfig | None:
    """Serve's settings; None where the number of replicas is fixed."""
    if config.max_replicas is None:
        return None
    with warnings.catch_warnings():
        # Serve warns of `metrics_interval_s`, and reads nothing that could stand in its place.
        warnings.simplefilter("ignore", DeprecationWarning)
        return AutoscalingConfig(
            min_replicas=config.min_replicas,
            max_replicas=config.max_replicas,
            metrics_interval_s=_METRICS_EVERY_S,
            look_back_period_s=_LOOK_BACK_S,
            upscale_delay_s=config.upscale_delay_s,
            downscale_delay_s=config.downscale_delay_s,
            policy=AutoscalingPolicy(
                policy_function=LoadPolicy,
                policy_kwargs={"target_load_tokens": config.target_load_tokens},
            ),
        )
