"""What a server holds while nobody asks anything of it: read from its processes and its metrics."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from benchmarks.process_tree import role_of, use_by_role

ROLES = ("door", "replica", "engine_core")
COUNTS = {
    "flora_running_requests": "running_requests",
    "flora_waiting_requests": "waiting_requests",
    "flora_queue_waiting": "queued_requests",
    "flora_running_sequences": "running_sequences",
    "flora_cache_pending": "pending_fetches",
    "flora_event_loop_tasks": "event_loop_tasks",
    "flora_slots_used": "slots_used",
}
"""Gauges of /metrics and what they are called here; what several processes say is added up."""

MUST_BE_ZERO = (
    "running_requests",
    "waiting_requests",
    "queued_requests",
    "running_sequences",
    "pending_fetches",
    "node_cache_pins",
    "stream_leases",
)


_DIGEST_LETTERS = 64


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much more a gauge may show at the end than on the first plateau.

    Memory: allocators keep what bursts needed, so `rss_share` of it and `rss_mb` on top. File
    descriptors and threads: the load's 16 kept connections, and pools that fill up to their bounds.
    """

    rss_mb: float = 16.0
    rss_share: float = 0.05
    num_fds: float = 24.0
    num_threads: float = 12.0
    num_tasks: float = 8.0

    def excess(self, name: str, before: float, after: float) -> float:
        """What is more than allowed; 0 or less is well."""
        if name in MUST_BE_ZERO:
            return after
        growth = after - before
        if name.endswith("_rss_mb"):
            return growth - self.rss_mb - self.rss_share * before
        if name.endswith("_fds"):
            return growth - self.num_fds
        if name.endswith("_threads"):
            return growth - self.num_threads
        if name == "event_loop_tasks":
            return growth - self.num_tasks
        return 0.0


def leaks(
    before: Mapping[str, float], after: Mapping[str, float], allowance: Allowance
) -> list[str]:
    """What grew by more than allowed, in words, from one plateau to another."""
    return [
        f"{name}: {before.get(name, 0.0):g} before, {value:g} after"
        for name, value in after.items()
        if allowance.excess(name, before.get(name, 0.0), value) > 0
    ]


def read_gauges(
    server: psutil.Process, metrics_text: str, node_cache: Path, num_leases: int
) -> dict[str, float]:
    """Everything at once, by name."""
    found = {"stream_leases": float(num_leases)}
    for role, use in use_by_role(server).items():
        if role in ROLES:
            found[f"{role}_rss_mb"] = use.rss_bytes / 1e6
            found[f"{role}_fds"] = float(use.num_fds)
            found[f"{role}_threads"] = float(use.num_threads)
    found["node_cache_pins"] = float(count_open(server, node_cache))
    return found | counts_of(metrics_text)


def counts_of(metrics_text: str) -> dict[str, float]:
    """The wanted gauges of a Prometheus page, added up over their labels."""
    found: dict[str, float] = {}
    for line in metrics_text.splitlines():
        name = line.split("{", 1)[0].split(" ", 1)[0]
        if name in COUNTS:
            found[COUNTS[name]] = found.get(COUNTS[name], 0.0) + float(line.rsplit(" ", 1)[1])
    return found


def count_open(server: psutil.Process, folder: Path) -> int:
    """Blobs below `folder` that replicas hold open: each pin is one."""
    num = 0
    for process in server.children(recursive=True):
        try:
            if role_of(" ".join(process.cmdline())) == "replica":
                num += open_blobs(process.pid, folder)
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue
    return num


def open_blobs(pid: int, folder: Path) -> int:
    """Files in `folder` that are named like a digest and that the process has open."""
    num = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            path = Path(os.readlink(descriptor))
        except FileNotFoundError:
            continue
        num += path.parent == folder and len(path.name.split(" ")[0]) == _DIGEST_LETTERS
    return num
