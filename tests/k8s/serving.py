"""The settings with which the application runs in an overlay."""

import os
from unittest.mock import patch

from app.config import Settings, load_settings
from tests.k8s.manifests import Manifest, named, settings_arguments

REDIS_URL = "rediss://flora:secret@redis:6379/0?ssl_ca_certs=/etc/redis-tls/ca.crt"


def environment(objects: list[Manifest]) -> dict[str, str]:
    """What every Ray pod is told, secrets apart."""
    told: dict[str, str] = named(objects, "ConfigMap", "ray-environment")["data"]
    return told


def settings_of(objects: list[Manifest]) -> Settings:
    """As the builder reads them: the environment, and over it the arguments."""
    told = {**environment(objects), "FLORA_CACHE__REDIS_URL": REDIS_URL}
    with patch.dict(os.environ, told, clear=True):
        return load_settings(overrides=settings_arguments(objects))
