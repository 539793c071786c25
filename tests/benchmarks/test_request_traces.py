from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.request_traces import NUM_ADAPTERS, PHASES, azure, drift, scans, traces, zipf


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three functions: one steady, one in a single minute, one never."""
    counts = "rank,function,app,invocations\n1,a,a,1440\n2,b,b,100\n3,c,c,0\n"
    (tmp_path / "azure_functions_2019_daily_counts.csv").write_text(counts)
    header = ",".join(["f", "o", "a", *(f"minute_{minute}" for minute in range(1, 1441))])
    days = [["1"] * 1440, ["0"] * 700 + ["100"] + ["0"] * 739, ["0"] * 1440]
    rows = [",".join([name] * 3 + day) for name, day in zip("abc", days, strict=True)]
    minutes = tmp_path / "azure_functions_2019_invocations_per_minute.csv"
    minutes.write_text("\n".join([header, *rows]) + "\n")
    return tmp_path


def test_shares_follow_the_rank() -> None:
    counts = [count for _, count in Counter(zipf(200_000, rng()).tolist()).most_common(10)]
    assert counts[0] / counts[9] == pytest.approx(10, rel=0.15)
    assert counts[0] / 200_000 == pytest.approx(1 / 12.09, rel=0.05)


def test_popularity_moves_between_phases() -> None:
    phases = np.array_split(drift(160_000, rng()), PHASES)
    first, *_, last = ({key for key, _ in Counter(p.tolist()).most_common(50)} for p in phases)
    assert 5 <= len(first & last) <= 30


def test_a_fifth_is_scans_of_adapters_asked_for_once() -> None:
    trace = scans(100_000, rng())
    scanned = trace[trace >= NUM_ADAPTERS]
    assert len(scanned) == len(set(scanned.tolist())) == 20_000


def test_a_real_day_keeps_volumes_and_bursts(data: Path) -> None:
    trace = azure(200_000, rng(), data).tolist()
    assert len(trace) == 200_000
    times: dict[int, list[int]] = {}
    for at, key in enumerate(trace):
        times.setdefault(key, []).append(at)
    # Half of the adapters have one minute a day: whatever they ask for lies close together.
    spans = [found[-1] - found[0] for found in times.values() if len(found) > 1]
    assert sum(span < 1_000 for span in spans) > len(spans) / 20
    assert max(spans) > 100_000


def test_the_real_day_needs_its_files(data: Path) -> None:
    made = ["zipf", "drift", "scans"]
    assert list(traces(None)) == list(traces(data / "absent")) == made
    found = traces(data)
    assert list(found) == [*made, "azure"]
    assert len(found["azure"](100, rng())) == 100


def test_a_seed_decides_all(data: Path) -> None:
    for make in traces(data).values():
        assert (make(1_000, rng()) == make(1_000, rng())).all()
