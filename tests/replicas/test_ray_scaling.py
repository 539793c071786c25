"""What Serve's autoscaler makes of the settings and of reported loads. Starts no Ray."""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from ray.serve.autoscaling_policy import _apply_autoscaling_config
from ray.serve.config import AutoscalingConfig, AutoscalingContext

from replicas.ray_scaling import LOAD, LoadPolicy, autoscaling
from replicas.scaling import ScalingConfig

CONFIG = ScalingConfig(
    min_replicas=0,
    max_replicas=4,
    target_load_tokens=100,
    upscale_delay_s=0,
    downscale_delay_s=5,
)


class Autoscaler:
    """Serve's decisions about one deployment, one turn after the other."""

    def __init__(self, config: AutoscalingConfig) -> None:
        kwargs = config.policy.policy_kwargs
        decide: Callable[..., tuple[int, dict[str, Any]]] = config.policy.get_policy()(**kwargs)
        self._decide = _apply_autoscaling_config(decide)
        self._config = config
        self._state: dict[str, Any] = {}
        self.target = 0

    def turn(self, loads: Sequence[float], *, num_waiting: int = 0) -> int:
        """Decide with so many replicas running, each with its load."""
        context = AutoscalingContext(
            deployment_id=SimpleNamespace(),
            deployment_name="replica",
            app_name="flora",
            current_num_replicas=len(loads),
            target_num_replicas=self.target,
            running_replicas=[],
            total_num_requests=num_waiting + sum(map(bool, loads)),
            total_queued_requests=num_waiting,
            aggregated_metrics={LOAD: dict(enumerate(loads))} if loads else {},
            raw_metrics={},
            capacity_adjusted_min_replicas=self._config.min_replicas,
            capacity_adjusted_max_replicas=self._config.max_replicas,
            policy_state=self._state,
            last_scale_up_time=None,
            last_scale_down_time=None,
            current_time=None,
            config=self._config,
        )
        self.target, self._state = self._decide(context)
        return self.target


def autoscaler(config: ScalingConfig = CONFIG) -> Autoscaler:
    elastic = autoscaling(config)
    assert elastic is not None
    return Autoscaler(elastic)


def test_a_fixed_number_has_no_autoscaling() -> None:
    assert autoscaling(ScalingConfig()) is None


def test_the_settings_reach_serve() -> None:
    elastic = autoscaling(CONFIG)
    assert elastic is not None
    assert (elastic.min_replicas, elastic.max_replicas) == (0, 4)
    assert (elastic.upscale_delay_s, elastic.downscale_delay_s) == (0, 5)
    assert elastic.policy.get_policy() is LoadPolicy


@pytest.mark.parametrize(
    ("loads", "expected"), [([100], 1), ([101], 2), ([150, 151], 4), ([1000, 0, 0], 10)]
)
def test_what_replicas_have_to_do_decides(loads: list[float], expected: int) -> None:
    """Serve keeps it within the bounds afterwards."""
    assert autoscaler().turn(loads) == expected


def test_who_waits_where_nobody_runs_gets_a_replica_at_once() -> None:
    patient = ScalingConfig(min_replicas=0, max_replicas=4, upscale_delay_s=1000)
    scaler = autoscaler(patient)
    assert scaler.turn([]) == 0
    assert scaler.turn([], num_waiting=1) == 1
    assert scaler.turn([], num_waiting=5) == 1


def test_the_number_shrinks_late() -> None:
    scaler = autoscaler()
    scaler.target = 3
    assert scaler.turn([0, 0, 0]) == 3
    scaler = autoscaler(ScalingConfig(max_replicas=4, target_load_tokens=100, downscale_delay_s=0))
    scaler.target = 3
    assert scaler.turn([0, 0, 90]) == 1


def test_a_server_without_reports_wants_nobody() -> None:
    context = SimpleNamespace(aggregated_metrics=None)
    assert LoadPolicy(100)(context) == (0, {})
