"""One simulated door: gathers requests in a window, chooses replicas, sends."""

from collections.abc import Callable
from math import isnan

from routing.simulator.clock import Clock
from routing.simulator.job import Job
from routing.simulator.router import Reports, Router

WINDOW_S = 0.002
MAX_WINDOW_REQUESTS = 64
_RETRY_S = 0.05


class SimulatedDoor:
    """A window opens with its first request, and closes 2 ms later or when 64 are in it."""

    def __init__(self, clock: Clock, router: Router, send: Callable[[Job], None]) -> None:
        self._clock = clock
        self._router = router
        self._send = send
        self._window: list[Job] = []
        self._num_windows = 0

    def __repr__(self) -> str:
        return f"<SimulatedDoor {len(self._window)} in the window>"

    def arrive(self, job: Job) -> None:
        """A request comes in, or comes back."""
        self._window.append(job)
        if len(self._window) == MAX_WINDOW_REQUESTS:
            self._close(self._num_windows)
        elif len(self._window) == 1:
            self._clock.after(WINDOW_S, self._close, self._num_windows)

    def update(self, reports: Reports) -> None:
        """What the controller has told."""
        self._router.update(reports, self._clock.now_s)

    def told(self, job: Job) -> None:
        """A first token, or the end of an answer, is here."""
        if isnan(job.ended_s):
            self._router.first_token(job, self._clock.now_s)
        else:
            self._router.ended(job, self._clock.now_s)

    def lost(self, job: Job, generated: int) -> None:
        """Its replica is gone: it goes on elsewhere, with what it has had."""
        self._router.lost(job, self._clock.now_s)
        job.move_on(generated)
        self.arrive(job)

    def _close(self, number: int) -> None:
        if number != self._num_windows:
            return
        self._num_windows += 1
        jobs, self._window = self._window, []
        try:
            replicas = self._router.place(jobs, self._clock.now_s)
        except ValueError:
            for job in jobs:
                self._clock.after(_RETRY_S, self.arrive, job)
            return
        for job, replica in zip(jobs, replicas, strict=True):
            job.replica = replica
            self._router.sent(job, self._clock.now_s)
            self._send(job)
