"""Who has the longest of many queues. Names and lengths alone."""

from collections import defaultdict


class LongestQueue:
    """Lengths by name. They change by one at a time, which keeps every call at O(1)."""

    def __init__(self) -> None:
        self._lengths: dict[str, int] = {}
        self._names: defaultdict[int, dict[str, None]] = defaultdict(dict)
        self.max_length = 0

    def change(self, name: str, length: int) -> None:
        """A queue is now this long, one more or one less than before; 0 forgets it."""
        if (before := self._lengths.pop(name, 0)) > 0:
            del self._names[before][name]
            if not self._names[before]:
                del self._names[before]
        if length > 0:
            self._lengths[name] = length
            self._names[length][name] = None
        if length > self.max_length:
            self.max_length = length
        elif before == self.max_length and before not in self._names:
            self.max_length = before - 1

    def longest(self) -> str:
        """A name with `max_length`, the one that has had it longest. Raises KeyError if none."""
        return next(iter(self._names[self.max_length]))
