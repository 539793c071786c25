"""How bytes get into a slab's slots: at once on a host, beside the running steps on a device."""

import logging
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from contracts.errors import AdapterCorrupt
from replicas.slot_order import Event, SlotOrder, Stream

logger = logging.getLogger(__name__)

NAN_BYTE = 0xFF
"""All bits set is not a number in every float format, and so is an int8 vector's scale."""

Fill = Callable[[NDArray[np.uint8]], int]
"""Writes a row to the beginning of the bytes it is given; how many. Raises AdapterCorrupt, OSError.
"""


class RowWriter(Protocol):
    """Writes slots. Steps read them: what a step reads, it reads after `before_step`."""

    def write(self, slot: int, fill: Fill) -> None:
        """Fill a slot from its beginning."""
        ...

    def set_bytes(self, slot: int, value: int) -> None:
        """Every byte of a slot becomes `value`."""
        ...

    def before_step(self, reader: int, slots: Iterable[int]) -> None:
        """The reader's next step reads these slots; its step before has been queued."""
        ...


class HostWriter:
    """Into memory of the host: done when the call is. `rows`: [num_slots + 1, row_width]."""

    def __init__(self, rows: torch.Tensor) -> None:
        self._bytes = rows.view(torch.uint8).numpy()

    def write(self, slot: int, fill: Fill) -> None:
        """Raises what `fill` raises."""
        fill(self._bytes[slot])

    def set_bytes(self, slot: int, value: int) -> None:
        self._bytes[slot] = value

    def before_step(self, reader: int, slots: Iterable[int]) -> None:
        """Whatever was written is there."""


class Copies(Protocol):
    """A device's side stream for copies to it, and host memory that it can read by itself."""

    def new_buffer(self, num_bytes: int) -> torch.Tensor:
        """uint8 [num_bytes] of the host, pinned."""
        ...

    def compute(self) -> Stream:
        """The stream that steps are queued on."""
        ...

    def queue(self, work: Callable[[], object], after: Event | None) -> Event:
        """Queue work on the side stream, behind an event; the mark behind it. From any thread."""
        ...


class StagedWriter:
    """To a device, without holding the thread that runs the engine.

    A thread of its own reads a row into one of a few pinned buffers, queues its copy on the side
    stream, and takes the buffer again once the copy is done. A row that cannot be read after all
    becomes not a number: no answer is better than another adapter's.
    """

    def __init__(self, rows: torch.Tensor, copies: Copies, num_buffers: int = 4) -> None:
        self._rows = rows.view(torch.uint8)
        self._copies = copies
        self._order = SlotOrder()
        width = self._rows.shape[1]
        self._buffers: deque[tuple[torch.Tensor, Event | None]] = deque(
            (copies.new_buffer(width), None) for _ in range(num_buffers)
        )
        # One, so that writes are queued in the order in which they were ordered.
        self._thread = ThreadPoolExecutor(1, "row-writer")

    def write(self, slot: int, fill: Fill) -> None:
        """Starts it; what `fill` raises is logged."""
        self._start(slot, lambda after: self._copy(slot, fill, after))

    def set_bytes(self, slot: int, value: int) -> None:
        self._start(slot, lambda after: self._set(slot, value, after))

    def before_step(self, reader: int, slots: Iterable[int]) -> None:
        self._order.before_step(reader, slots, self._copies.compute())

    def _start(self, slot: int, write: Callable[[Event | None], Event]) -> None:
        after = self._order.before_write(slot, self._copies.compute())
        future: Future[Event] = self._thread.submit(write, after)
        self._order.wrote(slot, future)

    def _copy(self, slot: int, fill: Fill, after: Event | None) -> Event:
        buffer, copied = self._buffers.popleft()
        if copied is not None:
            copied.synchronize()
        try:
            count = fill(buffer.numpy())
            target = self._rows[slot, :count]
            copied = self._copies.queue(
                lambda: target.copy_(buffer[:count], non_blocking=True), after
            )
        except (OSError, AdapterCorrupt):
            logger.exception("the row of slot %d could not be read", slot)
            copied = self._set(slot, NAN_BYTE, after)
        finally:
            self._buffers.append((buffer, copied))
        return copied

    def _set(self, slot: int, value: int, after: Event | None) -> Event:
        return self._copies.queue(lambda: self._rows[slot].fill_(value), after)
