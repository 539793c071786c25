"""Settings: three layers, and refusals that name the setting."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.config import Settings, load_settings, read_api_key
from contracts.errors import InvalidRequest


def write(folder: Path, text: str) -> Path:
    path = folder / "flora.toml"
    path.write_text(text)
    return path


def test_defaults_stand_alone() -> None:
    settings = load_settings()
    assert settings.base_model_name == "smollm2-135m-instruct"
    assert settings.server.port == 8000


def test_file_then_environment_then_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        tmp_path,
        "[server]\nport = 1\nhost = 'file'\n[window]\nwait_s = 0\nmax_batch_size = 1\n"
        "[cache.redis]\nmax_retries = 7\n[upload.limits]\nmax_rank = 3\n",
    )
    monkeypatch.setenv("FLORA_SERVER__PORT", "2")
    monkeypatch.setenv("FLORA_WINDOW__MAX_BATCH_SIZE", "2")
    monkeypatch.setenv("FLORA_CACHE__REDIS__REPLY_TIMEOUT_S", "0.5")
    monkeypatch.setenv("FLORA_REPLICA__MAX_MODEL_LEN_TOKENS", "99")
    settings = load_settings(path, {"server": {"port": 3}})
    assert (settings.server.host, settings.server.port) == ("file", 3)
    assert (settings.window.wait_s, settings.window.max_batch_size) == (0, 2)
    assert (settings.cache.redis.max_retries, settings.cache.redis.reply_timeout_s) == (7, 0.5)
    assert settings.upload.limits.max_rank == 3
    assert settings.replica.max_model_len_tokens == 99


def test_nothing_changes_afterwards() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.server.port = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value", "param"),
    [
        ("FLORA_SERVER__PORT", "many", "server.port"),
        ("FLORA_SERVER__PORT", "70000", "server.port"),
        ("FLORA_SERVER__PROT", "1", "server.prot"),
        ("FLORA_SERVE__PORT", "1", "serve"),
        ("FLORA_PORT", "1", "port"),
        ("FLORA_SERVER", "1", "server"),
        ("FLORA_CACHE", "{", "environment"),
        ("FLORA_CACHE__REDIS__MAX", "1", "cache.redis.max"),
        ("FLORA_CACHE__NODE_CACHE_BYTES", "-1", "cache"),
        ("FLORA_REPLICA__NUM_SLOTS", "1", "replica"),
        ("FLORA_REPLICA__DTYPE", "int3", "replica.dtype"),
        ("FLORA_WINDOW__WAIT_S", "nan", "window.wait_s"),
        ("FLORA_WINDOW__WAIT_S", "-1", "window.wait_s"),
        ("FLORA_UPLOAD__LIMITS__MAX_TENSORS", "x", "upload.limits.max_tensors"),
    ],
)
def test_a_bad_variable_stops_the_start_by_name(
    variable: str, value: str, param: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidRequest) as refused:
        load_settings()
    assert refused.value.param == param
    named = param if param != "environment" else "cache"
    assert named in str(refused.value).lower()


@pytest.mark.parametrize(
    ("text", "param"),
    [
        ("[server]\nprot = 1", "server.prot"),
        ("[servers]\nport = 1", "servers"),
        ("x = 1", "x"),
        ("[server\n", "config"),
        ("[replica]\nmodel = ''\nnum_slots = 0", "replica"),
        ("[cache]\nredis = 3", "cache.redis"),
    ],
)
def test_a_bad_file_stops_the_start_by_name(text: str, param: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        load_settings(write(tmp_path, text))
    assert refused.value.param == param


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"nowhere\.toml"):
        load_settings(tmp_path / "nowhere.toml")


def test_a_password_is_never_shown() -> None:
    overrides: dict[str, Any] = {"cache": {"redis_url": "redis://:hunter2@h/0"}}
    assert "hunter2" not in repr(load_settings(overrides=overrides))
    overrides["cache"]["redis_url"] = ["redis://:hunter2@h/0"]
    with pytest.raises(InvalidRequest) as refused:
        load_settings(overrides=overrides)
    assert "hunter2" not in str(refused.value)


def test_the_key_of_the_command_line_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_api_key() == ""
    monkeypatch.setenv("FLORA_API_KEY", " flora-1-2 ")
    assert read_api_key() == "flora-1-2"
    assert load_settings() == Settings()
    monkeypatch.setenv("FLORA_API_KEY", "se\ncret")
    with pytest.raises(InvalidRequest) as raised:
        read_api_key()
    assert "cret" not in str(raised.value)
