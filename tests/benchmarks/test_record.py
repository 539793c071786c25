import json
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import record
from benchmarks.record import Checkout, Spread, read_checkout, summarise, write_record

finite = st.floats(-1e300, 1e300)  # two numbers of a measurement can be added


def make_record(path: Path | None = None, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "name": "engine--smollm2",
        "question": "How much of the base model's speed is left with 32 adapters?",
        "config": {"num_adapters": 32},
        "seed": 7,
        "warmup": 1,
        "repeats": 3,
        "metrics": {"tokens_per_s": 400.0},
        "now": lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "checkout": lambda: Checkout("abc123", False),
    }
    return write_record(path, **(fields | changes))


def test_summary_is_median_and_spread() -> None:
    metrics, spread = summarise({"tokens_per_s": [3.0, 1.0, 2.0], "hold_ms": [0.5]})
    assert metrics == {"tokens_per_s": 2.0, "hold_ms": 0.5}
    assert spread == {"tokens_per_s": Spread(1.0, 2.0, 3.0, 3), "hold_ms": Spread(0.5, 0.5, 0.5, 1)}


@given(st.lists(finite, min_size=1))
def test_median_lies_within_its_spread(samples: list[float]) -> None:
    metrics, spread = summarise({"x": samples})
    assert spread["x"].min <= metrics["x"] <= spread["x"].max
    assert spread["x"].n == len(samples)


def test_a_metric_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="hold_ms"):
        summarise({"hold_ms": []})


def test_record_holds_what_one_needs_to_repeat_it(tmp_path: Path) -> None:
    metrics, spread = summarise({"tokens_per_s": [390.0, 400.0, 410.0]})
    path = make_record(
        tmp_path / "deep" / "r.json",
        metrics=metrics,
        spread=spread,
        command="flora bench engine",
        ceiling="base model: 412 tokens/s",
        verdict="0.97 of base",
    )
    found = json.loads(path.read_text())
    assert list(found) == [
        "name", "question", "command", "commit", "dirty", "created_at", "hardware", "versions",
        "config", "seed", "warmup", "repeats", "metrics", "spread", "ceiling", "verdict",
    ]  # fmt: skip
    assert found["command"] == "flora bench engine"
    assert found["commit"] == "abc123"
    assert found["created_at"] == "2026-01-02T03:04:05+00:00"
    assert found["metrics"] == {"tokens_per_s": 400.0}
    assert found["spread"]["tokens_per_s"] == {"min": 390.0, "median": 400.0, "max": 410.0, "n": 3}
    assert found["hardware"]["num_cores"] >= 1
    assert found["hardware"]["memory_bytes"] > 0
    assert "python" in found["versions"]


def test_time_is_written_in_utc(tmp_path: Path) -> None:
    east = timezone(timedelta(hours=2))
    path = make_record(tmp_path / "r.json", now=lambda: datetime(2026, 1, 1, 1, 0, 0, tzinfo=east))
    assert json.loads(path.read_text())["created_at"] == "2025-12-31T23:00:00+00:00"


@pytest.mark.parametrize(("dirty", "folder"), [(False, "."), (True, "scratch")])
def test_a_dirty_tree_writes_to_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dirty: bool, folder: str
) -> None:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    path = make_record(checkout=lambda: Checkout("abc123", dirty))
    assert path == tmp_path / folder / "engine--smollm2.json"


def test_an_explicit_path_is_kept_in_a_dirty_tree(tmp_path: Path) -> None:
    path = make_record(tmp_path / "r.json", checkout=lambda: Checkout("abc123", True))
    assert path == tmp_path / "r.json"
    assert json.loads(path.read_text())["dirty"] is True


def test_a_number_that_is_not_finite_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        make_record(tmp_path / "r.json", metrics={"tokens_per_s": float("nan")})
    assert not list(tmp_path.iterdir())


def test_a_spread_needs_its_metric(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="hold_ms"):
        make_record(tmp_path / "r.json", spread={"hold_ms": Spread(1, 1, 1, 1)})


def test_checkout_sees_changed_sources_but_not_results(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True
        )

    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "r.json").write_text("1")
    (tmp_path / "source.py").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")

    (results / "r.json").write_text("2")
    clean = read_checkout(tmp_path)
    (tmp_path / "source.py").write_text("2")
    changed = read_checkout(tmp_path)

    assert len(clean.commit) == 40
    assert not clean.dirty
    assert changed == Checkout(clean.commit, True)


def test_outside_of_git_the_commit_is_unknown(tmp_path: Path) -> None:
    assert read_checkout(tmp_path) == Checkout("unknown", True)
