"""The composition root: settings in, a Ray Serve application out."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ray import serve
from ray.serve.config import RequestRouterConfig

from app.config import Settings, load_settings
from app.model_config import deployment_of
from app.ray_door import door_app
from app.stores import with_object_store
from app.telemetry import start_telemetry
from contracts.errors import InvalidRequest
from replicas.ray_deployment import replica_app
from routing.share import own_share

_REPORT_EVERY_S = 1.0
_REPORT_TIMEOUT_S = 10.0


def build(settings: Settings) -> serve.Application:
    """The ingress over a deployment a model; `settings.cache.redis_url` must be set.

    Paths of files are made absolute here: Ray's processes run in other folders.
    """
    log = replace(settings.log, directory=_absolute(settings.log.directory))
    update = {"cache": with_object_store(settings.cache), "log": log}
    settings = settings.model_copy(update=update)
    telemetry = partial(start_telemetry, settings.telemetry)
    router = RequestRouterConfig(
        request_router_class="routing.ray_router.NamedReplicaRouter",
        request_routing_stats_period_s=_REPORT_EVERY_S,
        request_routing_stats_timeout_s=_REPORT_TIMEOUT_S,
    )
    models = settings.served_models
    replicas = [
        replica_app(
            model, settings.cache, telemetry, router, own_share, name=deployment_of(model, models)
        )
        for model in models
    ]
    return door_app(settings, *replicas)


def application(args: dict[str, Any]) -> serve.Application:
    """What a config file of Ray Serve names as `import_path`; `args` are settings, nested as usual.

    What they leave out comes from the environment, secrets above all. Raises InvalidRequest.
    """
    settings = load_settings(overrides=args)
    if not settings.cache.redis_url:
        raise InvalidRequest("cache.redis_url: a cluster needs one that all its nodes reach")
    return build(settings)


def _absolute(folder: str) -> str:
    return str(Path(folder).resolve()) if folder else ""
