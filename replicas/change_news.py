"""News of changes on their way from the feed to whoever acts on them, and what to do about one."""

import asyncio
from collections import deque
from dataclasses import dataclass

from contracts.adapters import AdapterChange, AdapterKey, Digest
from replicas.served_names import ServedNames


@dataclass(frozen=True, slots=True)
class Actions:
    """`retire` these bytes here: their file and their slot. `fetch` those instead."""

    retire: Digest | None = None
    fetch: AdapterKey | None = None


def decide(change: AdapterChange, names: ServedNames, *, is_resident: bool) -> Actions:
    """What a change asks of this replica; `names` know of it already.

    `is_resident`: the old version's bytes are on this node. Bytes that another name has, too, or
    that the name has got back meanwhile, stay. A version that is outdated itself is not fetched.
    """
    old, new = change.old, change.new
    retire = old if old and not names.serves(old) and (new is None or new.digest != old) else None
    if new is None or not is_resident or new.digest == old:
        return Actions(retire)
    newest = names.current(change.tenant, change.name)
    is_outdated = newest is not None and newest.version > new.version
    return Actions(retire, None if is_outdated else new)


class ChangeInbox:
    """At most `max_news` changes in their order. Too many, or a gap, and all must be looked up."""

    def __init__(self, max_news: int) -> None:
        self._max_news = max_news
        self._news: deque[AdapterChange] = deque()
        self._has_gap = False
        self._wake = asyncio.Event()

    def put(self, change: AdapterChange | None) -> None:
        """Add news; None is a gap. Never waits."""
        if change is None or len(self._news) >= self._max_news:
            self._news.clear()
            self._has_gap = True
        else:
            self._news.append(change)
        self._wake.set()

    async def take(self) -> AdapterChange | None:
        """The next news; None: look everything up."""
        while not (self._has_gap or self._news):
            self._wake.clear()
            await self._wake.wait()
        if self._has_gap:
            self._has_gap = False
            return None
        return self._news.popleft()
