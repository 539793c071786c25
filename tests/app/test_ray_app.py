"""The builder that a config file of Ray Serve names."""

import pytest

from app.ray_app import application
from contracts.errors import InvalidRequest

ARGS = {
    "server": {"host": "127.0.0.1"},
    "replica": {"engine": "echo", "model": "tiny"},
}


def test_arguments_are_settings_and_secrets_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLORA_CACHE__REDIS_URL", "redis://cache.example.org:6379/0")
    door = application(ARGS)._bound_deployment
    settings = door.init_args[0]
    assert settings.cache.redis_url == "redis://cache.example.org:6379/0"
    assert (settings.replica.engine, settings.server.host) == ("echo", "127.0.0.1")
    assert door.name == "door"


def test_a_cluster_without_redis_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLORA_CACHE__REDIS_URL", raising=False)
    with pytest.raises(InvalidRequest, match=r"cache\.redis_url"):
        application(ARGS)


def test_an_unknown_argument_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLORA_CACHE__REDIS_URL", "redis://cache.example.org:6379/0")
    with pytest.raises(InvalidRequest, match=r"replica\.modell"):
        application({**ARGS, "replica": {"modell": "tiny"}})
