"""Kills processes of a running server at random, and restarts its Redis, while it is let."""

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import psutil  # type: ignore[import-untyped]

from adapter_cache.valkey_server import ValkeyServer
from benchmarks.process_tree import processes_by_role

KINDS = ("replica", "engine_core", "door", "valkey")
"""What is hit: a Serve replica with its engine, an engine alone, an ingress process, the store."""
_STORE_AWAY_S = 1.0


@dataclass(frozen=True, slots=True)
class Kill:
    """One process, gone at `at_s` of the monotonic clock."""

    kind: str
    at_s: float


class Monkey:
    """`server` is the process that was started; every `every_s` (half to one and a half times that)
    it hits one process of a kind that exists, each kind as likely as the others.
    """

    def __init__(
        self,
        server: psutil.Process,
        valkey: ValkeyServer,
        kinds: Sequence[str],
        every_s: float,
        rng: np.random.Generator,
    ) -> None:
        self._server = server
        self._valkey = valkey
        self._kinds = kinds
        self._every_s = every_s
        self._rng = rng
        self.kills: list[Kill] = []

    async def run(self, seconds: float) -> None:
        """Returns when time is up; what was killed last may still be on its way back."""
        until_s = time.monotonic() + seconds
        while time.monotonic() < until_s:
            await asyncio.sleep(self._every_s * self._rng.uniform(0.5, 1.5))
            await self._hit()

    async def _hit(self) -> None:
        victims = await asyncio.to_thread(processes_by_role, self._server)
        there = [kind for kind in self._kinds if kind == "valkey" or victims.get(kind)]
        kind = str(self._rng.choice(there))
        if kind == "valkey":
            self._valkey._process.send_signal(signal.SIGKILL)
            self.kills.append(Kill(kind, time.monotonic()))
            await asyncio.sleep(_STORE_AWAY_S)
            # From the main thread: it is to end with this process.
            self._valkey.restart()
            return
        processes = victims[kind]
        victim = processes[int(self._rng.integers(len(processes)))]
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            return
        self.kills.append(Kill(kind, time.monotonic()))
