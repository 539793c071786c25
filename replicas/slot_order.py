"""What waits for what when slots are written while steps run. Knows events, no tensors and no CUDA.

Two things happen to a slot, each on a queue (a CUDA stream) of its own: it is written, and steps
read it. A queue does its work in order; between them only events tell. So

- a step waits for the writes of the slots that it reads, and for no other write;
- a write waits for the last step that read the slot before, and for no other step.
"""

from collections.abc import Iterable
from typing import Protocol


class Event(Protocol):
    """A mark in a queue; reached once all that was queued before it is done."""

    def synchronize(self) -> None:
        """Wait for it on the host."""
        ...


class Stream(Protocol):
    """A queue of work; `torch.cuda.Stream` is one."""

    def wait_event(self, event: Event) -> None:
        """What is queued from now on waits for the event."""
        ...

    def record_event(self) -> Event:
        """A mark behind all that is queued now."""
        ...


class Write(Protocol):
    """A write that is on its way to the queue; a `concurrent.futures.Future` is one."""

    def result(self) -> Event:
        """The mark behind the write, once it is queued."""
        ...


class SlotOrder:
    """One thread's view of both queues: it queues the steps and orders the writes.

    Writes reach their queue in the order in which they were ordered. Between a reader's
    `before_step` calls its step has been queued: what reads the slots that the first one named.
    """

    def __init__(self) -> None:
        self._writes: dict[int, Write] = {}  # of slots that no step has waited for since
        self._readers: dict[int, frozenset[int]] = {}  # what each reader's latest step reads
        self._last_reads: dict[int, Event] = {}  # behind the last step that read a slot

    def before_write(self, slot: int, compute: Stream) -> Event | None:
        """What a write to the slot, ordered now, has to wait for."""
        last_read = self._last_reads.pop(slot, None)
        if any(slot in slots for slots in self._readers.values()):
            return compute.record_event()
        return last_read

    def wrote(self, slot: int, write: Write) -> None:
        """The write has been ordered."""
        self._writes[slot] = write

    def before_step(self, reader: int, slots: Iterable[int], compute: Stream) -> None:
        """The reader's next step, queued after this, reads `slots`: make it wait for their writes.

        Waits on the host for a write that is not queued yet, which there is no event for.
        """
        now = frozenset(slots)
        if left := self._readers.get(reader, frozenset()) - now:
            self._last_reads.update(dict.fromkeys(left, compute.record_event()))
        self._readers[reader] = now
        for slot in now & self._writes.keys():
            compute.wait_event(self._writes.pop(slot).result())
