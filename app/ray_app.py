"""The composition root: settings in, a Ray Serve application out."""

from ray import serve

from app.config import Settings
from app.ray_door import door_app
from app.stores import with_object_store
from replicas.ray_deployment import replica_app


def build(settings: Settings) -> serve.Application:
    """The ingress over the replica deployment; `settings.cache.redis_url` must be set.

    Paths of the object store are made absolute here: Ray's processes run in other folders.
    """
    settings = settings.model_copy(update={"cache": with_object_store(settings.cache)})
    return door_app(settings, replica_app(settings.replica, settings.cache))
