"""Which replicas have an adapter's row at hand, as far as is known here. Integers only."""

from collections import OrderedDict
from collections.abc import Iterable

Slot = int
"""A replica's place in the tables of one door."""


class Residency:
    """What replicas have reported, and what has been sent to them since.

    What was sent is believed for `learned_s` seconds, and until the replica is next heard of or
    sent something; by then a report has confirmed it, or it was evicted again. Adapters are their
    digests' words.
    """

    def __init__(self, learned_s: float) -> None:
        self._learned_s = learned_s
        # A million adapters may be held somewhere, most of them once. Tuples are a quarter of the
        # size of sets, and the garbage collector has nothing to look for in them.
        self._holders: dict[int, tuple[Slot, ...]] = {}
        self._reported: dict[Slot, frozenset[int]] = {}
        self._learned: dict[Slot, OrderedDict[int, float]] = {}  # sent lately last

    def __repr__(self) -> str:
        return f"<Residency {len(self._holders)} adapters, {len(self._reported)} replicas>"

    def holders(self, adapter: int) -> tuple[Slot, ...]:
        """The replicas that have it, who has had it longest first."""
        return self._holders.get(adapter, ())

    def report(self, slot: Slot, residents: Iterable[int], now_s: float) -> None:
        """A replica has said what it has."""
        new = frozenset(residents)
        old = self._reported.get(slot, frozenset())
        self._reported[slot] = new
        for adapter in new - old:
            self._hold(slot, adapter)
        for adapter in old - new:
            self._drop_unless_known(slot, adapter)
        self._let_go(slot, now_s)

    def learn(self, slot: Slot, adapter: int, now_s: float) -> None:
        """A request for the adapter goes there: it will have it."""
        learned = self._learned.setdefault(slot, OrderedDict())
        learned[adapter] = now_s
        learned.move_to_end(adapter)
        self._hold(slot, adapter)
        self._let_go(slot, now_s)

    def forget(self, slot: Slot) -> None:
        """The replica is gone."""
        known = self._reported.pop(slot, frozenset()) | self._learned.pop(slot, {}).keys()
        for adapter in known:
            self._drop_unless_known(slot, adapter)

    def check_integrity(self) -> None:
        """Raises AssertionError where the two ways of looking at it differ."""
        known = {(s, a) for s, adapters in self._reported.items() for a in adapters}
        known |= {(s, a) for s, adapters in self._learned.items() for a in adapters}
        held = {(s, a) for a, slots in self._holders.items() for s in slots}
        assert known == held, f"{known ^ held} differ"
        assert all(self._holders.values()), "an adapter without holders is kept"
        assert len(held) == sum(map(len, self._holders.values())), "a holder is named twice"

    def _hold(self, slot: Slot, adapter: int) -> None:
        slots = self._holders.get(adapter, ())
        if slot not in slots:
            self._holders[adapter] = (*slots, slot)

    def _let_go(self, slot: Slot, now_s: float) -> None:
        """Forget what was sent too long ago."""
        learned = self._learned.get(slot)
        while learned and now_s - next(iter(learned.values())) > self._learned_s:
            adapter, _ = learned.popitem(last=False)
            self._drop_unless_known(slot, adapter)

    def _drop_unless_known(self, slot: Slot, adapter: int) -> None:
        if adapter in self._reported.get(slot, ()) or adapter in self._learned.get(slot, ()):
            return
        left = tuple(other for other in self._holders[adapter] if other != slot)
        if left:
            self._holders[adapter] = left
        else:
            del self._holders[adapter]
