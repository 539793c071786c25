"""The composition root: settings in, a Ray Serve application out."""

from ray import serve

from app.config import Settings
from app.ray_door import door_app
from replicas.ray_deployment import replica_app


def build(settings: Settings) -> serve.Application:
    """The ingress over the replica deployment; `settings.cache.redis_url` must be set."""
    return door_app(settings, replica_app(settings.replica, settings.cache))
