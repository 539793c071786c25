"""Traces of requests, as adapter numbers in order of time: made of Zipf's law, or of a real day.

Every trace is decided by its `rng`.
"""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NUM_ADAPTERS = 100_000
PHASES = 8
SCAN_REQUESTS = 2_000
_MINUTES = 24 * 60

Trace = NDArray[np.int64]
Floats = NDArray[np.float64]
Maker = Callable[[int, np.random.Generator], Trace]


def zipf(num_requests: int, rng: np.random.Generator) -> Trace:
    """Independent requests; the n-th most popular adapter has a share in proportion to 1/n."""
    return rng.permutation(NUM_ADAPTERS)[_ranks(num_requests, rng)]


def drift(num_requests: int, rng: np.random.Generator) -> Trace:
    """`zipf`, but eight times during the run a quarter of the adapters exchange their places."""
    places = rng.permutation(NUM_ADAPTERS)
    parts = []
    for ranks in np.array_split(_ranks(num_requests, rng), PHASES):
        parts.append(places[ranks])
        moved = rng.choice(NUM_ADAPTERS, NUM_ADAPTERS // 4, replace=False)
        places[moved] = places[rng.permutation(moved)]
    return np.concatenate(parts)


def scans(num_requests: int, rng: np.random.Generator) -> Trace:
    """`zipf`, every fifth request within a run of 2000 adapters that nobody asks for again."""
    trace = zipf(num_requests, rng)
    times = np.arange(num_requests)
    is_scan = times // SCAN_REQUESTS % 5 == 4
    trace[is_scan] = NUM_ADAPTERS + times[is_scan]
    return trace


def azure(num_requests: int, rng: np.random.Generator, folder: Path) -> Trace:
    """One day of Azure Functions of 2019, stretched to as many adapters as the others have.

    An adapter's share of the day's requests is the measured distribution's value at its quantile.
    Its minutes are those of the function at the same quantile, turned by a time of its own: bursts
    and timers stay, while adapters alike do not move in step.
    """
    volumes = _read_volumes(folder / "azure_functions_2019_daily_counts.csv")
    minutes = _read_minutes(folder / "azure_functions_2019_invocations_per_minute.csv")
    quantiles = (np.arange(NUM_ADAPTERS) + 0.5) / NUM_ADAPTERS
    measured = (np.arange(len(volumes)) + 0.5) / len(volumes)
    shares = np.exp(np.interp(quantiles, measured, np.log(volumes)))
    adapters = rng.choice(NUM_ADAPTERS, num_requests, p=shares / shares.sum())
    functions = (quantiles * len(minutes)).astype(np.int64)[adapters]
    turned = rng.integers(_MINUTES, size=NUM_ADAPTERS)[adapters]
    at = (_draw_minutes(functions, minutes, rng) + turned) % _MINUTES
    order = np.argsort(at + rng.random(num_requests), kind="stable")
    return rng.permutation(NUM_ADAPTERS)[adapters[order]]


def traces(data: Path | None) -> dict[str, Maker]:
    """Every trace by its name; the real day only where `data` holds its files."""
    made: dict[str, Maker] = {"zipf": zipf, "drift": drift, "scans": scans}
    if data is None or not data.is_dir():
        return made
    return made | {"azure": lambda num_requests, rng: azure(num_requests, rng, data)}


def _ranks(num_requests: int, rng: np.random.Generator) -> Trace:
    shares = 1 / np.arange(1, NUM_ADAPTERS + 1)
    return rng.choice(NUM_ADAPTERS, num_requests, p=shares / shares.sum())


def _read_volumes(path: Path) -> Floats:
    """Invocations a day of every function that had any, most first."""
    with path.open(encoding="utf-8", newline="") as file:
        counts = np.array([float(row["invocations"]) for row in csv.DictReader(file)])
    volumes: Floats = np.sort(counts[counts > 0])[::-1]
    return volumes


def _read_minutes(path: Path) -> Floats:
    """Invocations a minute, (functions, 1440), of every function that had any, most first."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    counts = np.array([[float(cell or 0) for cell in row[-_MINUTES:]] for row in rows])
    totals = counts.sum(axis=1)
    order = np.argsort(-totals, kind="stable")
    activity: Floats = counts[order[totals[order] > 0]]
    return activity


def _draw_minutes(functions: Trace, minutes: Floats, rng: np.random.Generator) -> Trace:
    """For each request a minute, by the activity of its function."""
    draws = rng.random(len(functions))
    found = np.empty(len(functions), np.int64)
    for function in np.unique(functions):
        activity = np.cumsum(minutes[function])
        mine = functions == function
        found[mine] = np.searchsorted(activity, draws[mine] * activity[-1], side="right")
    return np.minimum(found, _MINUTES - 1)
