"""Settings of what processes say: read from everywhere, and refused by name."""

from pathlib import Path

import pytest

from app.config import load_settings
from contracts.errors import InvalidRequest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log.format", "xml"),
        ("log.level", "LOUD"),
        ("log.max_file_bytes", "10"),
        ("tracing.otlp_endpoint", "collector:4317"),
        ("tracing.sample_ratio", "1.5"),
        ("tracing.sample_ratio", "nan"),
        ("metrics.max_tenants", "0"),
        ("usage.max_pending", "0"),
        ("usage.flush_s", "0"),
        ("usage.colour", "red"),
    ],
)
def test_a_bad_value_names_its_setting(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    section, _, key = name.partition(".")
    monkeypatch.setenv(f"FLORA_{section.upper()}__{key.upper()}", value)
    with pytest.raises(InvalidRequest) as error:
        load_settings()
    assert section in str(error.value)
    assert key in str(error.value)


def test_every_process_gets_log_and_tracing(tmp_path: Path) -> None:
    given = {"log": {"directory": str(tmp_path)}, "tracing": {"otlp_endpoint": "http://c:4317"}}
    telemetry = load_settings(None, given).telemetry
    assert telemetry.log.folder == tmp_path
    assert telemetry.tracing.otlp_endpoint == "http://c:4317"
    assert load_settings().telemetry.log.folder is None
    # It may hold a password.
    assert "http://c" not in repr(telemetry)
