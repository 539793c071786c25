"""A server on this machine, from outside: its processes, what they use, and an end for one."""

import psutil  # type: ignore[import-untyped]

from benchmarks.process_tree import processes_by_role, use_by_role
from loadtest.draw import Rng
from loadtest.tally import Reading

_VICTIMS = ("replica", "engine_core", "ray_llm")
"""Roles that answer requests, in the order in which one is looked for."""


class LocalServer:
    """The process that was started, and its whole family."""

    def __init__(self, process: psutil.Process) -> None:
        self._process = process

    @classmethod
    def find(cls, port: int, pid: int = 0) -> "LocalServer":
        """By its process id, or else by the port on its command line. Raises LookupError."""
        if pid:
            return cls(psutil.Process(pid))
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "serve" in words and str(port) in words:
                return cls(process)
        raise LookupError(f"no server's command line names port {port}: see --server-pid")

    def read(self, at_s: float) -> list[Reading]:
        """What each role uses now; blocks for some tens of milliseconds."""
        return [
            Reading(at_s, role, use.rss_bytes, use.num_fds, use.num_threads)
            for role, use in use_by_role(self._process).items()
        ]

    def kill_replica(self, rng: Rng) -> str:
        """SIGKILL for one replica, or engine where there are no replicas; who it was.

        Raises LookupError where there is none.
        """
        there = processes_by_role(self._process)
        for role in _VICTIMS:
            if there.get(role):
                victim = there[role][int(rng.integers(len(there[role])))]
                victim.kill()
                return f"{role} {victim.pid}"
        raise LookupError("the server has no replica left")
