"""Which adapter sits in which slot of the slab. Integers only: no bytes, no tensors, no clock."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from contracts.errors import ServiceError

IDENTITY_SLOT = 0
"""The slot of "no adapter": all zeros, never written, never evicted."""


@dataclass(frozen=True, slots=True)
class SlotWrite:
    """Slot `slot` must be filled with adapter `adapter_id`; it held `evicted_id` (0: nobody)."""

    adapter_id: int
    slot: int
    evicted_id: int


class SlotTable:
    """Least recently used slots for adapter ids >= 1; the running batch's are never evicted.

    Slots are numbered 1..num_slots; slot 0 is the identity. Raises ServiceError when more adapters
    are active or pinned at once than there are slots, and then changes nothing.
    """

    def __init__(self, num_slots: int) -> None:
        if num_slots < 1:
            raise ServiceError(f"num_slots must be at least 1, not {num_slots}")
        self.num_slots = num_slots
        self._slot_of: OrderedDict[int, int] = OrderedDict()  # oldest use first
        self._free = list(range(num_slots, 0, -1))
        self._pinned: set[int] = set()

    def activate(self, active: Collection[int]) -> tuple[SlotWrite, ...]:
        """Give every id of the running batch a slot and mark it as used; returns what to write."""
        missing = [i for i in dict.fromkeys(active) if i not in self._slot_of]
        victims = self._victims(len(missing) - len(self._free), set(active)) if missing else []
        writes = tuple(self._place(adapter_id, victims) for adapter_id in missing)
        for adapter_id in active:
            self._slot_of.move_to_end(adapter_id)
        return writes

    def slot_of(self, adapter_id: int) -> int:
        """The adapter's slot; 0 for id 0 (no adapter) and for an id that has no slot."""
        return self._slot_of.get(adapter_id, IDENTITY_SLOT)

    def release(self, adapter_id: int) -> bool:
        """Forget an adapter; its slot is free at once. False if it had none."""
        slot = self._slot_of.pop(adapter_id, None)
        self._pinned.discard(adapter_id)
        if slot is not None:
            self._free.append(slot)
        return slot is not None

    def pin(self, adapter_id: int) -> bool:
        """Keep an adapter's slot until it is released. False if it has none."""
        if adapter_id in self._slot_of:
            self._pinned.add(adapter_id)
        return adapter_id in self._slot_of

    def clear(self) -> None:
        for adapter_id in list(self._slot_of):
            self.release(adapter_id)

    @property
    def resident(self) -> frozenset[int]:
        return frozenset(self._slot_of)

    def check_integrity(self) -> None:
        """Raises AssertionError if a slot is held twice, lost, or a pin has no slot."""
        held = list(self._slot_of.values())
        assert sorted(held + self._free) == list(range(1, self.num_slots + 1)), repr(self)
        assert self._pinned <= self._slot_of.keys(), repr(self)

    def __repr__(self) -> str:
        used = len(self._slot_of)
        return f"SlotTable({used}/{self.num_slots} used, {len(self._pinned)} pinned)"

    def _victims(self, count: int, active: set[int]) -> list[int]:
        if count <= 0:
            return []
        idle = (i for i in self._slot_of if i not in active and i not in self._pinned)
        victims = [adapter_id for adapter_id, _ in zip(idle, range(count), strict=False)]
        if len(victims) < count:
            raise ServiceError(f"no room for {len(active)} active adapters in {self!r}")
        return victims[::-1]

    def _place(self, adapter_id: int, victims: list[int]) -> SlotWrite:
        evicted_id = 0
        if not self._free:
            evicted_id = victims.pop()
            self.release(evicted_id)
        slot = self._free.pop()
        self._slot_of[adapter_id] = slot
        return SlotWrite(adapter_id, slot, evicted_id)
