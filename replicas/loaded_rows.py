"""Which rows an engine is sure to have in its slots, and who uses them. Integers and digests."""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from itertools import count

from contracts.adapters import Digest

_MAX_KNOWN_IDS = 1 << 16


class LoadedRows:
    """The engine's side of the slots: a digest's integer id, whether its row must be loaded.

    A row is sure to be in its slot while fewer than `max_loaded` others were used since; what the
    worker holds beyond that is not known here, and loading it again is cheap. A digest keeps its
    id whatever happens to its slot. Ids come from `ids`, which the kinds of rows share.
    """

    def __init__(self, max_loaded: int, ids: Iterator[int] | None = None) -> None:
        self._max_loaded = max_loaded
        self._ids: OrderedDict[Digest, int] = OrderedDict()
        self._loaded: OrderedDict[int, None] = OrderedDict()  # most recently used last
        self._next_id = count(1) if ids is None else ids
        self._failures: Counter[Digest] = Counter()
        self._users: dict[str, Digest] = {}
        self.hits = 0
        self.misses = 0

    def enter(self, request_id: str, digest: Digest) -> bool:
        """A request uses `digest` from now on. True if its row is sure to be in its slot."""
        self._users[request_id] = digest
        adapter_id = self.id_of(digest)
        if adapter_id in self._loaded:
            self._loaded.move_to_end(adapter_id)
            self.hits += 1
            return True
        return False

    def leave(self, request_id: str) -> None:
        """The request has ended; ids that are not in use are ignored."""
        self._users.pop(request_id, None)

    def confirm(self, digest: Digest, was_there: bool = False) -> None:
        """The worker has the row in its slot, and had it before if it `was_there`."""
        self.hits += was_there
        self.misses += not was_there
        adapter_id = self.id_of(digest)
        self._loaded[adapter_id] = None
        self._loaded.move_to_end(adapter_id)
        while len(self._loaded) > self._max_loaded:
            self._loaded.popitem(last=False)

    def fail(self, digest: Digest) -> None:
        """The worker could not load the row."""
        self._failures[digest] += 1

    def release(self, digest: Digest) -> int | None:
        """Forget that the row is loaded; the id whose slot to free, None if in use or unknown."""
        if digest not in self._ids or digest in self._users.values():
            return None
        adapter_id = self._ids[digest]
        self._loaded.pop(adapter_id, None)
        return adapter_id

    def name_of(self, digest: Digest) -> str:
        """What vLLM keys prefix-cache blocks by: it follows from the digest alone.

        But for a digest that failed before: blocks of the failed try must not be found again.
        """
        failures = self._failures[digest]
        return f"{digest}!{failures}" if failures else digest

    def id_of(self, digest: Digest) -> int:
        """An engine-wide number for the bytes; a forgotten digest gets a new one, never an old."""
        if digest not in self._ids:
            self._ids[digest] = next(self._next_id)
            if len(self._ids) > _MAX_KNOWN_IDS:
                self._ids.popitem(last=False)
        self._ids.move_to_end(digest)
        return self._ids[digest]

    def __repr__(self) -> str:
        return f"<LoadedRows {len(self._loaded)} loaded, {len(self._users)} in use>"
