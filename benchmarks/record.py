"""The one writer of benchmark results: JSON that says what was asked, on what, and what came out.

Knows nothing of engines or servers; a benchmark hands it numbers.
"""

import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import Hardware, read_hardware, read_versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the `n` samples behind one metric lie apart, in the metric's own unit."""

    min: float
    median: float
    max: float
    n: int


@dataclass(frozen=True, slots=True)
class Checkout:
    """The state of the sources: the commit, and whether tracked files differ from it."""

    commit: str
    dirty: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One answer to one question.

    `metrics` is flat, each unit in its key, each number a median; `spread` has the same keys where
    a metric was sampled more than once. `ceiling` states the physical or reference limit that
    the metrics are to be read against, `verdict` what they say.
    """

    name: str
    question: str
    command: str
    commit: str
    dirty: bool
    created_at: str
    hardware: Hardware
    versions: Mapping[str, str]
    config: Mapping[str, Any]
    seed: int
    warmup: int
    repeats: int
    metrics: Mapping[str, float]
    spread: Mapping[str, Spread]
    ceiling: str
    verdict: str

    def to_json(self) -> str:
        """Indented JSON in the order of the fields. Raises ValueError for NaN and infinity."""
        return json.dumps(asdict(self), indent=2, allow_nan=False) + "\n"


def summarise(
    samples: Mapping[str, Sequence[float]],
) -> tuple[dict[str, float], dict[str, Spread]]:
    """Median and spread of every metric's samples.

    Raises ValueError for a metric without samples.
    """
    empty = [name for name, values in samples.items() if not values]
    if empty:
        raise ValueError(f"no samples of {', '.join(empty)}")
    spread = {
        name: Spread(min(values), statistics.median(values), max(values), len(values))
        for name, values in samples.items()
    }
    return {name: s.median for name, s in spread.items()}, spread


def write_record(
    path: Path | None = None,
    *,
    name: str,
    question: str,
    config: Mapping[str, Any],
    seed: int,
    warmup: int,
    repeats: int,
    metrics: Mapping[str, float],
    spread: Mapping[str, Spread] | None = None,
    ceiling: str = "",
    verdict: str = "",
    command: str | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    checkout: Callable[[], Checkout] | None = None,
) -> Path:
    """Write one record and return where it lies.

    Without `path` it goes to `benchmarks/results/NAME.json`, or, when tracked sources differ from
    the commit, to `benchmarks/results/scratch/`, which git ignores: a committed number always
    names the code that made it. `command` is this process's command line unless given.
    Raises ValueError when a spread has no metric or a number is not finite.
    """
    stray = set(spread or {}) - set(metrics)
    if stray:
        raise ValueError(f"spread without a metric: {', '.join(sorted(stray))}")
    source = (checkout or read_checkout)()
    record = Record(
        name=name,
        question=question,
        command=command or shlex.join(_command_line()),
        commit=source.commit,
        dirty=source.dirty,
        created_at=now().astimezone(UTC).isoformat(timespec="seconds"),
        hardware=read_hardware(),
        versions=read_versions(),
        config=config,
        seed=seed,
        warmup=warmup,
        repeats=repeats,
        metrics=metrics,
        spread=spread or {},
        ceiling=ceiling,
        verdict=verdict,
    )
    target = path or (RESULTS / "scratch" if source.dirty else RESULTS) / f"{name}.json"
    text = record.to_json()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return target


def read_checkout(root: Path = ROOT) -> Checkout:
    """Commit and state of the checkout at `root`; outside of git the commit is "unknown", dirty.

    Results themselves do not count as a change, so that several can be written in a row.
    """
    try:
        commit = _git(root, "rev-parse", "HEAD").strip()
        changes = _git(
            root, "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results"
        )
    except (OSError, subprocess.CalledProcessError):
        return Checkout("unknown", True)
    return Checkout(commit, bool(changes.strip()))


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _command_line() -> list[str]:
    """This process's command, without the folder that the program happens to lie in."""
    program = Path(sys.argv[0])
    is_ours = program.parent == ROOT / "benchmarks"
    name = ["flora", "bench", program.stem.replace("_", "-")] if is_ours else [program.name]
    return [*name, *sys.argv[1:]]
