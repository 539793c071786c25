"""Tuning the windows of an application that runs, from any process of its Ray cluster."""

import logging
from collections.abc import Mapping
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException

from app.config import TuningSettings
from app.ray_dispatcher import translate
from contracts.errors import NotReady

_TIMEOUT_S = 10.0


def tune_windows(changes: Mapping[str, Any], app_name: str = "flora") -> int:
    """Give TuningSettings, those that change, to every ingress replica; how many there are.

    Nobody is dropped, and it counts from each replica's next window on. A replica that starts
    later has its settings. Raises ValueError for other settings, NotReady where nothing runs.
    """
    TuningSettings(**changes)
    if not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise NotReady("there is no Ray cluster on this machine") from error
    try:
        door = serve.get_deployment_handle("door", app_name)
        answers = door.broadcast("reconfigure", dict(changes)).results(timeout_s=_TIMEOUT_S)
    except RayTaskError as error:
        raise translate(error) from error
    except (RayError, RayServeException, TimeoutError) as error:
        raise NotReady(f"the application '{app_name}' does not answer") from error
    return len(answers)
