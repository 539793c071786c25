"""How many homes an adapter has: one, until one is not enough."""

from collections import OrderedDict
from dataclasses import dataclass

_QUIET_S = 1.0


@dataclass(slots=True)
class _Heat:
    num_homes: int
    full_since_s: float
    full_at_s: float
    changed_at_s: float


class HomeCounts:
    """Twice as many once all homes were full for `grow_after_s` without a quiet second between,
    one fewer for every `shrink_after_s` in which they were not (more than 0).
    Remembers the `max_hot` adapters that were full last. Times are seconds of one monotonic clock.
    """

    def __init__(
        self,
        *,
        max_homes: int,
        grow_after_s: float,
        shrink_after_s: float,
        max_hot: int = 65_536,
    ) -> None:
        self._max_homes = max_homes
        self._grow_after_s = grow_after_s
        self._shrink_after_s = shrink_after_s
        self._max_hot = max_hot
        self._heats: OrderedDict[int, _Heat] = OrderedDict()  # full lately last

    def __repr__(self) -> str:
        return f"<HomeCounts {len(self._heats)} hot adapters>"

    def of(self, adapter: int, now_s: float) -> int:
        """How many homes it has now."""
        heat = self._heats.get(adapter)
        if heat is None:
            return 1
        self._shrink(heat, now_s)
        if heat.num_homes == 1 and now_s - heat.full_at_s > self._shrink_after_s:
            del self._heats[adapter]
        return heat.num_homes

    def note_full(self, adapter: int, now_s: float) -> None:
        """All of its homes were over the bound just now."""
        heat = self._heats.pop(adapter, None) or _Heat(1, now_s, now_s, now_s)
        self._heats[adapter] = heat
        if len(self._heats) > self._max_hot:
            self._heats.popitem(last=False)
        self._shrink(heat, now_s)
        if now_s - heat.full_at_s > _QUIET_S:
            heat.full_since_s = now_s
        heat.full_at_s = now_s
        if now_s - heat.full_since_s >= self._grow_after_s:
            heat.num_homes = min(2 * heat.num_homes, self._max_homes)
            heat.full_since_s = heat.changed_at_s = now_s

    def _shrink(self, heat: _Heat, now_s: float) -> None:
        quiet_since_s = max(heat.full_at_s, heat.changed_at_s)
        fewer = int((now_s - quiet_since_s) / self._shrink_after_s)
        if fewer > 0 and heat.num_homes > 1:
            heat.num_homes = max(1, heat.num_homes - fewer)
            heat.changed_at_s = quiet_since_s + fewer * self._shrink_after_s
