"""A copy and a compute queue that do their work when told to, in any order that events allow."""

from collections import deque
from collections.abc import Callable

import torch

from replicas.slot_order import Event


class Mark:
    """A place in a queue."""

    def __init__(self, stream: "Queue") -> None:
        self._stream = stream
        self.is_reached = False

    def reach(self) -> None:
        self.is_reached = True

    def synchronize(self) -> None:
        while not self.is_reached:
            assert self._stream.step(), "waits for ever"


class Queue:
    """A stream: its work is done in order, when `step` is called."""

    def __init__(self) -> None:
        self._work: deque[Callable[[], object] | Mark] = deque()

    def put(self, work: Callable[[], object]) -> None:
        self._work.append(work)

    def wait_event(self, event: Event) -> None:
        assert isinstance(event, Mark)
        self._work.append(event)

    def record_event(self) -> Mark:
        mark = Mark(self)
        self._work.append(mark.reach)
        return mark

    def step(self) -> bool:
        """Do the next piece of work; False if there is none, or it waits for another queue."""
        if not self._work:
            return False
        work = self._work[0]
        if isinstance(work, Mark):
            if not work.is_reached:
                return False
        else:
            work()
        self._work.popleft()
        return True

    def run(self) -> None:
        """All that can be done without another queue."""
        while self.step():
            pass

    @property
    def is_empty(self) -> bool:
        return not self._work


class FakeCopies:
    """`Copies` over two such queues, in memory of the host."""

    def __init__(self) -> None:
        self.copying, self.computing = Queue(), Queue()

    def new_buffer(self, num_bytes: int) -> torch.Tensor:
        return torch.zeros(num_bytes, dtype=torch.uint8)

    def compute(self) -> Queue:
        return self.computing

    def queue(self, work: Callable[[], object], after: Event | None) -> Mark:
        if after is not None:
            self.copying.wait_event(after)
        self.copying.put(work)
        return self.copying.record_event()
