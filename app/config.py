"""All settings, and the only reader of the environment.

One TOML file (`--config`), over it variables like `FLORA_SERVER__PORT=8001`, over those what the
command line gives. An unknown key or a bad value stops the start and names itself.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from adapter_cache.config import CacheConfig
from app.journey import FailoverLimits
from app.model_config import ModelConfig, require_apart, with_defaults
from app.telemetry_config import (
    LogSettings,
    MetricsSettings,
    TelemetrySettings,
    TracingSettings,
    UsageSettings,
)
from contracts.errors import InvalidRequest
from flora.adapter_config import AdapterLimits
from replicas.config import ReplicaConfig
from routing.config import RoutingConfig

DEFAULT_MODEL = "models/smollm2-135m-instruct"
"""What `flora models prepare` makes."""

API_KEY_VARIABLE = "FLORA_API_KEY"
"""What the command line sends to a server. It is no setting: the server knows no key by itself."""

_PREFIX = "FLORA_"
_DELIMITER = "__"

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Origin = Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")]


class Section(BaseModel):
    """Frozen and closed: the base of every section."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSettings(Section):
    """Where the API listens, what it calls the base model, and what it accepts.

    An empty `served_model_name` means the last part of `replica.model`, in lower case.
    `haproxy` puts HAProxy in front of the ingress where its binary is installed, in place of Ray
    Serve's own proxy. `request_timeout_s` bounds a request from its admission to its last token.
    Pages of `cors_origins` ("*": all) may call the API from a browser. `grpc_port` 0 is no gRPC;
    `grpc_max_message_bytes` bounds each message, whichever way it goes. `tool_parser` is vLLM's
    name for how the model writes calls of tools, empty for a server that calls none. A schema or
    grammar that is not compiled within `grammar_timeout_s` is refused. An ingress process decodes
    `max_parallel_clips` audio files at a time.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    served_model_name: Annotated[str, Field(max_length=200)] = ""
    num_ingress_replicas: Count = 1
    max_ongoing_requests: Count = 4096
    max_body_bytes: Annotated[int, Field(ge=1024)] = 2 * 1024**2
    max_audio_bytes: Annotated[int, Field(ge=1024)] = 16 * 1024**2
    max_parallel_clips: Count = 2
    request_timeout_s: Seconds = 600.0
    haproxy: bool = True
    cors_origins: tuple[Origin, ...] = ()
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = 0
    grpc_max_message_bytes: Annotated[int, Field(ge=64 * 1024, le=2**31 - 1)] = 4 * 1024**2
    tool_parser: Annotated[str, Field(max_length=64)] = "hermes"
    grammar_timeout_s: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 2.0


class AuthSettings(Section):
    """Whether callers need a key, and how long an ingress believes what it has heard of one.

    `required` None means: unless the server listens on the loopback alone.
    """

    required: bool | None = None
    cache_ttl_s: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 3.0


class TuningSettings(Section):
    """Which requests travel together: those that come within `wait_s` of the first.

    `adaptive` lets a request go at once where nothing runs. All of it may change at run time.
    """

    max_batch_size: Count = 64
    wait_s: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.002
    adaptive: bool = True


class WindowSettings(TuningSettings):
    """The window of one ingress process, and its bounds.

    `max_running` requests run at a time, `max_waiting` more may wait, `max_waiting_per_tenant` of
    them of one tenant. `store_timeout_s` bounds the one look-up of a window's adapters.
    """

    max_running: Count = 2048
    max_waiting: Count = 1024
    max_waiting_per_tenant: Count = 512
    store_timeout_s: Seconds = 2.0


class UploadSettings(Section):
    """How many uploads are read and compiled at a time, and the bounds of each."""

    max_parallel: Count = 2
    limits: AdapterLimits = AdapterLimits()


class Settings(BaseSettings):
    """The whole of it, one section a part. Build it with `load_settings`.

    Without `models`, `replica` is the one model; with them, it is what their tables leave out.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter=_DELIMITER,
        extra="forbid",
        frozen=True,
    )

    server: ServerSettings = ServerSettings()
    auth: AuthSettings = AuthSettings()
    window: WindowSettings = WindowSettings()
    upload: UploadSettings = UploadSettings()
    routing: RoutingConfig = RoutingConfig()
    failover: FailoverLimits = FailoverLimits()
    replica: ReplicaConfig = ReplicaConfig(model=DEFAULT_MODEL)
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)] | None = None
    cache: CacheConfig = CacheConfig()
    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
    metrics: MetricsSettings = MetricsSettings()
    usage: UsageSettings = UsageSettings()

    @field_validator("models")
    @classmethod
    def _are_apart(
        cls, models: tuple[ModelConfig, ...] | None, info: ValidationInfo
    ) -> tuple[ModelConfig, ...] | None:
        require_apart(models or ())
        server = info.data.get("server")
        if models and server is not None and server.served_model_name:
            raise ValueError("they have names of their own: leave out server.served_model_name")
        return models

    @property
    def served_models(self) -> tuple[ModelConfig, ...]:
        """Every base model, at least one."""
        if self.models:
            return self.models
        name = self.server.served_model_name or Path(self.replica.model).name.lower()
        return (ModelConfig.of(name, self.replica),)

    @property
    def base_model_name(self) -> str:
        """What clients call the first base model."""
        return self.served_models[0].name

    @property
    def telemetry(self) -> TelemetrySettings:
        """What every process needs to start its log and its tracer."""
        return TelemetrySettings(self.log, self.tracing)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """`load_settings` merges the sources itself, so that none is read behind its back."""
        return (init_settings,)


def load_settings(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """TOML file, then environment, then `overrides` (nested like the file); later ones win.

    Raises InvalidRequest; `param` is the dotted name of the setting at fault.
    """
    merged: dict[str, Any] = {"replica": {"model": DEFAULT_MODEL}}
    for layer in (_read_toml(path) if path else {}, _read_environment(), overrides or {}):
        merged = _merge(merged, layer)
    if "models" in merged:
        merged["models"] = with_defaults(merged["models"], merged["replica"])
    try:
        return Settings(**merged)
    except ValidationError as error:
        raise _named(error) from None


def read_api_key() -> str:
    """The API key in the environment, or "". Raises InvalidRequest, without showing it."""
    key = os.environ.get(API_KEY_VARIABLE, "").strip()
    if not key.isprintable() or not key.isascii():
        raise InvalidRequest(f"{API_KEY_VARIABLE} is no API key", "key")
    return key


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", "config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} is not TOML: {error}", "config") from error


def _read_environment() -> dict[str, Any]:
    """What FLORA_* sets. The library drops names that it does not know; here they are refused."""
    sections = Settings.model_fields
    for name in os.environ:
        section = name.removeprefix(_PREFIX).lower().split(_DELIMITER)[0]
        if name.startswith(_PREFIX) and section not in sections and name != API_KEY_VARIABLE:
            raise InvalidRequest(f"unknown setting {name}", section)
    try:
        return EnvSettingsSource(Settings)()
    except SettingsError as error:
        raise InvalidRequest(f"a FLORA_ variable cannot be read: {error}", "environment") from error


def _merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = _merge(below, value)
        else:
            merged[key] = value
    return merged


def _named(error: ValidationError) -> InvalidRequest:
    """The first complaint, by the setting's name and, if that is where it comes from, variable."""
    first = error.errors(include_url=False, include_input=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    variable = _PREFIX + re.sub(r"\.", _DELIMITER, name).upper()
    source = f" (from {variable})" if variable in os.environ else ""
    unknown = first["type"] in ("extra_forbidden", "unexpected_keyword_argument")
    what = "unknown setting" if unknown else first["msg"]
    return InvalidRequest(f"{name}: {what}{source}", name)
