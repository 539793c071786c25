"""Where the use of keys is written down: shared by all doors, or one door's own."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol

from app.quota import Bill, KeyUsage, Outcome


class QuotaLedger(Protocol):
    """Counts bills that come twice once."""

    async def settle(self, bills: Sequence[Bill]) -> list[list[Outcome]]:
        """For each bill the outcomes of its charges, in order. Raises StoreUnavailable."""
        ...


class MemoryLedger:
    """One process's own ledger. `lease_s` bounds how long a request may hold a stream.

    At most `max_keys` keys are known; the ones that were used longest ago are forgotten.
    """

    def __init__(
        self,
        lease_s: float,
        *,
        max_keys: int = 1 << 16,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease_us = int(lease_s * 1e6)
        self._max_keys = max_keys
        self._clock = clock
        self._keys: OrderedDict[str, KeyUsage] = OrderedDict()

    async def settle(self, bills: Sequence[Bill]) -> list[list[Outcome]]:
        """See QuotaLedger."""
        return self.settle_now(bills)

    def settle_now(self, bills: Sequence[Bill]) -> list[list[Outcome]]:
        """The same without waiting: nothing here needs to."""
        now_us = int(self._clock() * 1e6)
        outcomes = []
        for bill in bills:
            usage = self._keys.setdefault(bill.key_id, KeyUsage())
            self._keys.move_to_end(bill.key_id)
            outcomes.append(usage.settle(bill, now_us, self._lease_us))
            if usage.idle_at_us <= now_us:
                del self._keys[bill.key_id]
        while len(self._keys) > self._max_keys:
            self._keys.popitem(last=False)
        return outcomes

    def __len__(self) -> int:
        return len(self._keys)
