"""The device slots of one kind of adapter. Knows no vLLM and nothing of what an adapter does."""

import logging
from collections import deque
from collections.abc import Collection, Mapping
from pathlib import Path
from time import perf_counter
from typing import Protocol

from contracts.errors import AdapterCorrupt
from replicas.slots import IDENTITY_SLOT, SlotTable, SlotWrite

logger = logging.getLogger(__name__)


class SlotMemory(Protocol):
    """Device memory for adapters, one a slot; slot 0 changes nothing."""

    def load(self, slot: int, path: Path) -> None:
        """Fill a slot from a row file. Raises AdapterCorrupt, OSError; it is the identity then."""
        ...

    def wipe(self, slot: int) -> None:
        """Make a slot the identity."""
        ...

    def poison(self, slot: int) -> None:
        """Make whatever uses a slot not a number: no answer is better than another adapter's."""
        ...


class SlotBank:
    """A table of slots, kept true in the memory behind it.

    Adapters come as an id and their row file, None for an identity that vLLM warms up with.
    Everything runs in the engine loop, so an activation is one file read straight into its slot;
    `activation_hold_s` has how long the latest ones took.
    """

    def __init__(self, memory: SlotMemory, num_slots: int) -> None:
        self._memory = memory
        self._table = SlotTable(num_slots)
        self._broken: set[int] = set()
        self.activation_hold_s: deque[float] = deque(maxlen=4096)
        self.num_evictions = 0

    def activate(self, rows: Mapping[int, Path | None]) -> None:
        """Every adapter of the next step gets a slot.

        The step must go on for the others where one has no row: `add` came before and told the
        caller.
        """
        for write in self._activate(rows):
            try:
                self._fill(write.slot, rows[write.adapter_id])
            except (OSError, AdapterCorrupt):
                logger.exception("adapter %d has no row", write.adapter_id)
                self._memory.poison(write.slot)
                self._broken.add(write.adapter_id)

    def add(self, adapter_id: int, row: Path | None) -> bool:
        """Load one adapter; False if it was there. Raises AdapterCorrupt, OSError."""
        for write in (writes := self._activate([adapter_id])):
            try:
                self._fill(write.slot, row)
            except BaseException:
                self._table.release(adapter_id)
                raise
        return bool(writes)

    def remove(self, adapter_id: int) -> bool:
        """Free an adapter's slot; False if it had none."""
        self._broken.discard(adapter_id)
        return self._table.release(adapter_id)

    def remove_broken(self, adapter_id: int) -> None:
        """Free the slot of an adapter that had no row when it was needed."""
        if adapter_id in self._broken:
            self.remove(adapter_id)

    def clear(self) -> None:
        self._table.clear()

    def pin(self, adapter_id: int) -> bool:
        return self._table.pin(adapter_id)

    def has(self, adapter_id: int) -> bool:
        return self._table.slot_of(adapter_id) != IDENTITY_SLOT

    @property
    def resident(self) -> frozenset[int]:
        return self._table.resident

    def slots_of(self, adapter_ids: Collection[int]) -> list[int]:
        """The slot of each; 0 for what has none."""
        slot_of = self._table.slot_of
        return [slot_of(adapter_id) for adapter_id in adapter_ids]

    def __repr__(self) -> str:
        return f"<SlotBank {self._table!r}>"

    def _activate(self, adapter_ids: Collection[int]) -> tuple[SlotWrite, ...]:
        writes = self._table.activate(adapter_ids)
        self.num_evictions += sum(write.evicted_id != 0 for write in writes)
        return writes

    def _fill(self, slot: int, row: Path | None) -> None:
        started_s = perf_counter()
        if row is None:
            self._memory.wipe(slot)
        else:
            self._memory.load(slot, row)
        self.activation_hold_s.append(perf_counter() - started_s)
