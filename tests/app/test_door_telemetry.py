"""Everything that speaks, put together: the page that it makes is the documented one."""

import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapter_cache.config import CacheConfig
from app.config import Settings, load_settings
from app.door_metrics import DoorMetrics
from app.door_telemetry import DoorTelemetry
from app.replica_metrics import merged
from app.routing_metrics import RoutingMetrics
from app.stores import open_stores
from app.telemetry import start_telemetry
from contracts.replica import SlotReport
from contracts.tracing import NO_TRACER
from replicas.assembly import Assembly
from replicas.echo_engine import EchoEngine

DOCS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
NOBODY = "redis://127.0.0.1:1/0"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    cache = {"redis_url": NOBODY, "object_store_url": f"file://{tmp_path}/objects"}
    log = {"directory": str(tmp_path / "logs")}
    return load_settings(None, {"cache": cache, "log": log})


@pytest.fixture
async def door(settings: Settings) -> AsyncIterator[DoorMetrics]:
    """The counts of a door that speaks."""
    stores, metrics = open_stores(settings.cache), DoorMetrics()
    telemetry = DoorTelemetry(settings, stores, metrics)
    yield metrics
    await telemetry.aclose()
    await stores.close()


class LoraEngine(EchoEngine):
    """Counts LoRA slots, too."""

    async def slots(self) -> SlotReport:
        return replace(await super().slots(), lora=SlotReport(2, 1, 5, 6, 7))


async def replica_page(cache: CacheConfig) -> bytes:
    assembly = Assembly(LoraEngine(), cache)
    try:
        return await assembly.metrics.render()
    finally:
        await assembly.close()


def families(page: bytes) -> Iterator[tuple[str, str]]:
    """Name and kind of each metric."""
    for name, kind in re.findall(r"^# TYPE (flora_\w+) (\w+)$", page.decode(), re.MULTILINE):
        if not name.endswith("_created"):
            yield name.removesuffix("_total"), kind


async def test_metrics_are_documented_and_no_others(door: DoorMetrics, settings: Settings) -> None:
    RoutingMetrics(door.registry)
    page = merged(door.render(), {"r": await replica_page(settings.cache)}, "d")
    rows = re.findall(r"^\| `(flora_\w+)` \| (\w+) \|", DOCS.read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == set(families(page))


def test_labels_are_documented() -> None:
    rows = re.findall(r"^\| `flora_\w+` \| \w+ \| ([^|]*) \|", DOCS.read_text(), re.MULTILINE)
    assert {label for cell in rows for label in re.findall(r"\w+", cell)} == {
        *("protocol", "route", "status", "outcome", "bound", "limit"),
        *("why", "error"),
        *("tenant", "kind", "tier", "result"),
    }


async def test_names_answered_from_memory_are_counted(door: DoorMetrics) -> None:
    assert b"flora_registry_stale_answers_total 0.0" in door.render()
    door.num_stale_answers = lambda: 3
    assert b"flora_registry_stale_answers_total 3.0" in door.render()


async def test_a_replica_has_a_log_and_no_tracer_unless_asked(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_end: list[object] = []
    monkeypatch.setattr("atexit.register", at_end.append)
    assert start_telemetry(settings.telemetry, "replica") is NO_TRACER
    (close,) = at_end
    assert callable(close)
    close()
    assert [path.name.partition("-")[0] for path in (tmp_path / "logs").iterdir()] == ["replica"]
