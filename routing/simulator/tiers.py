"""Where adapters are: slots of a device, files of a node. Words only, no bytes."""

from collections import OrderedDict


class SlotTable:
    """Adapters on a device, least recently used first; one that is in use stays."""

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._users: OrderedDict[int, int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<SlotTable {len(self._users)} of {self._num_slots}>"

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, adapter: int) -> bool:
        return adapter in self._users

    def acquire(self, adapter: int) -> int | None:
        """Have it on the device for one more user; the adapter that had to go, if one had to.

        Raises RuntimeError where every slot is in use.
        """
        is_new = adapter not in self._users
        evicted = self._evict() if is_new and len(self._users) >= self._num_slots else None
        self._users[adapter] = self._users.get(adapter, 0) + 1
        self._users.move_to_end(adapter)
        return evicted

    def release(self, adapter: int) -> None:
        """One user fewer."""
        self._users[adapter] -= 1

    def residents(self, max_adapters: int) -> tuple[int, ...]:
        """The latest used first."""
        latest = reversed(self._users)
        return tuple(adapter for adapter, _ in zip(latest, range(max_adapters), strict=False))

    def _evict(self) -> int:
        for adapter, num_users in self._users.items():
            if not num_users:
                del self._users[adapter]
                return adapter
        raise RuntimeError(f"all {self._num_slots} slots are in use")


class NodeFiles:
    """Files of one node, least recently used first, each with the time from which it is there."""

    def __init__(self, max_adapters: int) -> None:
        self._max_adapters = max_adapters
        self._there_s: OrderedDict[int, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<NodeFiles {len(self._there_s)} of {self._max_adapters}>"

    def __contains__(self, adapter: int) -> bool:
        return adapter in self._there_s

    def use(self, adapter: int) -> float | None:
        """The time from which it is there, which may be to come; None where nobody fetches it."""
        if adapter not in self._there_s:
            return None
        self._there_s.move_to_end(adapter)
        return self._there_s[adapter]

    def add(self, adapter: int, there_s: float) -> None:
        """It will be there."""
        self._there_s[adapter] = there_s
        if len(self._there_s) > self._max_adapters:
            self._there_s.popitem(last=False)
