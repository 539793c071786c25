"""Settings of logs, traces, metrics and usage records. Reads no environment."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How each process says what happens.

    Lines go to standard error, which Ray keeps in its session's folder, or, with a `directory`,
    to one file a process there, of `max_file_bytes` and as much again. `level` is that of our own
    packages; others are heard from WARNING on.
    """

    format: Literal["json", "text"] = "json"
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    directory: str = ""
    max_file_bytes: int = 64 * 1024**2

    def __post_init__(self) -> None:
        if self.max_file_bytes < 4096:
            raise ValueError(f"max_file_bytes must be at least 4096, not {self.max_file_bytes}")

    @property
    def folder(self) -> Path | None:
        return Path(self.directory) if self.directory else None


@dataclass(frozen=True, slots=True)
class TracingSettings:
    """Where spans go, and which share of requests without a trace of their own is recorded."""

    otlp_endpoint: str = field(default="", repr=False)
    sample_ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.sample_ratio <= 1:
            raise ValueError(f"sample_ratio must be within 0 and 1, not {self.sample_ratio}")
        if self.otlp_endpoint and "://" not in self.otlp_endpoint:
            raise ValueError("otlp_endpoint must be a URL: http://HOST:4317 or https://HOST:4317")


@dataclass(frozen=True, slots=True)
class UsageSettings:
    """The log of finished requests in Redis: about the last `max_records` of them.

    An ingress process holds at most `max_pending` that Redis has not taken yet, and sends them
    every `flush_s`.
    """

    enabled: bool = True
    max_records: int = 1_000_000
    max_pending: int = 100_000
    flush_s: float = 0.25

    def __post_init__(self) -> None:
        if min(self.max_records, self.max_pending) < 1 or not self.flush_s > 0:
            raise ValueError("max_records, max_pending and flush_s must be positive")


@dataclass(frozen=True, slots=True)
class MetricsSettings:
    """`max_tenants` tenants have numbers of their own, the ones used most; the rest share one."""

    max_tenants: int = 100

    def __post_init__(self) -> None:
        if self.max_tenants < 1:
            raise ValueError(f"max_tenants must be positive, not {self.max_tenants}")


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """All that a process needs to start speaking."""

    log: LogSettings = LogSettings()
    tracing: TracingSettings = TracingSettings()
