"""Which adapters a replica has at hand, in a list that stays short however many there are."""

import asyncio
from collections import OrderedDict

from adapter_cache.node_cache import NodeCache
from contracts.adapters import AdapterKey, Digest
from contracts.replica import digest_word
from replicas.companion import Companion


class Residents(Companion):
    """The `max_residents` adapters that were used last here and are still on the node.

    Older ones need no mention: who looks for them asks their homes, where they were used.
    """

    def __init__(self, node: NodeCache, max_residents: int) -> None:
        self._node = node
        self._max_residents = max_residents
        self._used: OrderedDict[Digest, None] = OrderedDict()  # latest last

    def __repr__(self) -> str:
        return f"<Residents {len(self._used)} adapters>"

    def began(self, key: AdapterKey) -> None:
        """See Companion."""
        self.note(key)

    def note(self, key: AdapterKey) -> None:
        """The adapter was brought here, by a request or ahead of one."""
        self._used[key.digest] = None
        self._used.move_to_end(key.digest)
        if len(self._used) > self._max_residents:
            self._used.popitem(last=False)

    async def words(self) -> tuple[int, ...]:
        """Their digests' words, the latest used first."""
        digests = list(reversed(self._used))
        gone = await asyncio.to_thread(self._gone, digests)
        for digest in gone:
            self._used.pop(digest, None)
        return tuple(digest_word(digest) for digest in digests if digest not in gone)

    def _gone(self, digests: list[Digest]) -> frozenset[Digest]:
        return frozenset(digest for digest in digests if not self._node.has(digest))
