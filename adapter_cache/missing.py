"""Digests that no tier had a moment ago, so that asking again costs nothing."""

from collections.abc import Callable

from contracts.adapters import Digest


class MissingDigests:
    """Remembers at most `max_size` digests for `ttl_s` each; the oldest give way to new ones."""

    def __init__(self, ttl_s: float, max_size: int, clock: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._max_size = max_size
        self._clock = clock
        # In order of time: all live equally long.
        self._until_s: dict[Digest, float] = {}

    def add(self, digest: Digest) -> None:
        """Remember `digest` from now on."""
        self._until_s.pop(digest, None)
        self._until_s[digest] = self._clock() + self._ttl_s
        if len(self._until_s) > self._max_size:
            del self._until_s[next(iter(self._until_s))]

    def __contains__(self, digest: Digest) -> bool:
        until_s = self._until_s.get(digest)
        if until_s is None:
            return False
        if self._clock() < until_s:
            return True
        del self._until_s[digest]
        return False

    def __len__(self) -> int:
        return len(self._until_s)
