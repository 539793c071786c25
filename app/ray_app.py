"""The composition root: settings in, a Ray Serve application out."""

from dataclasses import replace
from functools import partial
from pathlib import Path

from ray import serve

from app.config import Settings
from app.ray_door import door_app
from app.stores import with_object_store
from app.telemetry import start_telemetry
from replicas.ray_deployment import replica_app


def build(settings: Settings) -> serve.Application:
    """The ingress over the replica deployment; `settings.cache.redis_url` must be set.

    Paths of files are made absolute here: Ray's processes run in other folders.
    """
    log = replace(settings.log, directory=_absolute(settings.log.directory))
    update = {"cache": with_object_store(settings.cache), "log": log}
    settings = settings.model_copy(update=update)
    telemetry = partial(start_telemetry, settings.telemetry)
    return door_app(settings, replica_app(settings.replica, settings.cache, telemetry))


def _absolute(folder: str) -> str:
    return str(Path(folder).resolve()) if folder else ""
