"""Eviction policies that scans do not flush, as their papers give them, over keys of one size."""

from collections import Counter, OrderedDict


class S3Fifo:
    """S3-FIFO (SOSP 2023): a small queue of a tenth, a main one, a ghost queue as long as it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._num_small = max(1, capacity // 10)
        self._uses: dict[int, int] = {}
        self._small: OrderedDict[int, None] = OrderedDict()
        self._main: OrderedDict[int, None] = OrderedDict()
        self._ghost: OrderedDict[int, None] = OrderedDict()

    def use(self, key: int) -> bool:
        if key in self._uses:
            self._uses[key] = min(3, self._uses[key] + 1)
            return True
        while len(self._uses) >= self._capacity:
            self._evict()
        (self._main if key in self._ghost else self._small)[key] = None
        self._ghost.pop(key, None)
        self._uses[key] = 0
        return False

    def _evict(self) -> None:
        if len(self._small) < self._num_small and self._main:
            self._evict_main()
            return
        key, _ = self._small.popitem(last=False)
        if self._uses[key] > 1:
            self._main[key] = None
            self._uses[key] = 0
            return
        del self._uses[key]
        self._ghost[key] = None
        if len(self._ghost) > self._capacity - self._num_small:
            self._ghost.popitem(last=False)

    def _evict_main(self) -> None:
        key, _ = self._main.popitem(last=False)
        if self._uses[key]:
            self._uses[key] -= 1
            self._main[key] = None
        else:
            del self._uses[key]


class TinyLfu:
    """W-TinyLFU (ACM TOS 2017): a window of 1 %, then whoever beats the segmented LRU's victim.

    Counts are exact, stop at 15 and are halved every ten uses a place.
    """

    def __init__(self, capacity: int) -> None:
        self._num_window = max(1, capacity // 100)
        self._num_main = capacity - self._num_window
        self._window: OrderedDict[int, None] = OrderedDict()
        self._probation: OrderedDict[int, None] = OrderedDict()
        self._protected: OrderedDict[int, None] = OrderedDict()
        self._counts: Counter[int] = Counter()
        self._until_halved = self._sample = 10 * capacity

    def use(self, key: int) -> bool:
        self._count(key)
        if key in self._window or key in self._protected:
            (self._window if key in self._window else self._protected).move_to_end(key)
            return True
        if key in self._probation:
            del self._probation[key]
            self._protected[key] = None
            if len(self._protected) > self._num_main * 4 // 5:
                self._probation[self._protected.popitem(last=False)[0]] = None
            return True
        self._window[key] = None
        if len(self._window) > self._num_window:
            self._admit(self._window.popitem(last=False)[0])
        return False

    def _admit(self, key: int) -> None:
        if len(self._probation) + len(self._protected) >= self._num_main:
            segment = self._probation or self._protected
            victim = next(iter(segment), None)
            if victim is None or self._counts[key] <= self._counts[victim]:
                return
            del segment[victim]
        self._probation[key] = None

    def _count(self, key: int) -> None:
        self._counts[key] = min(15, self._counts[key] + 1)
        self._until_halved -= 1
        if not self._until_halved:
            self._until_halved = self._sample
            halves = {key: count // 2 for key, count in self._counts.items() if count > 1}
            self._counts = Counter(halves)


class Arc:
    """ARC (FAST 2003): recency and frequency, whose shares follow the hits on two ghost lists."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._target = 0.0
        self._recent: OrderedDict[int, None] = OrderedDict()
        self._frequent: OrderedDict[int, None] = OrderedDict()
        self._recent_ghost: OrderedDict[int, None] = OrderedDict()
        self._frequent_ghost: OrderedDict[int, None] = OrderedDict()

    def use(self, key: int) -> bool:
        if key in self._recent or key in self._frequent:
            (self._recent if key in self._recent else self._frequent).pop(key)
            self._frequent[key] = None
            return True
        if key in self._recent_ghost or key in self._frequent_ghost:
            self._return(key)
            return False
        if len(self._recent) + len(self._recent_ghost) == self._capacity:
            if len(self._recent) < self._capacity:
                self._recent_ghost.popitem(last=False)
                self._replace(False)
            else:
                self._recent.popitem(last=False)
        elif self._num_known() >= self._capacity:
            if self._num_known() == 2 * self._capacity:
                self._frequent_ghost.popitem(last=False)
            self._replace(False)
        self._recent[key] = None
        return False

    def _num_known(self) -> int:
        ghosts = len(self._recent_ghost) + len(self._frequent_ghost)
        return len(self._recent) + len(self._frequent) + ghosts

    def _return(self, key: int) -> None:
        recent, frequent = len(self._recent_ghost), len(self._frequent_ghost)
        was_frequent = key in self._frequent_ghost
        if was_frequent:
            self._target = max(0.0, self._target - max(1.0, recent / frequent))
        else:
            self._target = min(self._capacity, self._target + max(1.0, frequent / recent))
        self._replace(was_frequent)
        (self._frequent_ghost if was_frequent else self._recent_ghost).pop(key)
        self._frequent[key] = None

    def _replace(self, was_frequent: bool) -> None:
        if len(self._recent) + len(self._frequent) < self._capacity:
            return
        size = len(self._recent)
        if size and (size > self._target or (was_frequent and size == self._target)):
            self._recent_ghost[self._recent.popitem(last=False)[0]] = None
        else:
            self._frequent_ghost[self._frequent.popitem(last=False)[0]] = None
