"""NodeCache against a model in memory, under random use."""

import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from adapter_cache.eviction import Resident, bytes_to_free, eviction_order
from adapter_cache.frequency import EMPTY_SKETCH, FrequencySketch
from adapter_cache.node_cache import NodeCache
from contracts.errors import Overloaded
from tests.adapter_cache.adapters import digest_of, make_blob


class NodeCacheMachine(RuleBasedStateMachine):
    """NodeCache against a list in order of use, a sketch in memory and a count of pins."""

    max_bytes = 1_000
    seeds = st.integers(0, 29)

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.clock = itertools.count(1).__next__
        self.open()
        self.used: list[bytes] = []
        self.pins: dict[bytes, int] = {}
        self.sketch = FrequencySketch(memoryview(bytearray(EMPTY_SKETCH)))

    def open(self) -> None:
        self.cache = NodeCache(Path(self.directory.name), self.max_bytes, self.clock)

    def blob(self, seed: int) -> bytes:
        return make_blob(seed, 1_100 if seed == 29 else 1 + seed * 37 % 97)

    def touch(self, blob: bytes) -> None:
        self.used = [*(other for other in self.used if other != blob), blob]

    def model_put(self, blob: bytes) -> bool:
        """Whether it fits, after the evictions that make room for it."""
        if len(blob) > self.max_bytes:
            return False
        if blob not in self.used:
            excess = bytes_to_free(sum(map(len, self.used)), len(blob), self.max_bytes)
            if excess:
                self.model_evict(excess)
            if sum(map(len, self.used)) + len(blob) > self.max_bytes:
                return False
        self.touch(blob)
        return True

    def model_evict(self, excess: int) -> None:
        blobs = {digest_of(blob): blob for blob in self.used}
        residents = [Resident(0, digest, len(blob)) for digest, blob in blobs.items()]
        self.sketch.age(len(residents))
        for victim in eviction_order(residents, self.sketch.estimate):
            if excess > 0 and blobs[victim.digest] not in self.pins:
                self.used.remove(blobs[victim.digest])
                excess -= victim.size_bytes

    @rule(seed=seeds)
    def put(self, seed: int) -> None:
        blob = self.blob(seed)
        if self.model_put(blob):
            assert self.cache.put(digest_of(blob), blob).read_bytes() == blob
        else:
            with pytest.raises(Overloaded):
                self.cache.put(digest_of(blob), blob)

    @rule(seed=seeds)
    def get(self, seed: int) -> None:
        blob = self.blob(seed)
        assert (self.cache.get(digest_of(blob)) is not None) is (blob in self.used)
        if blob in self.used:
            self.touch(blob)

    @rule(seed=seeds)
    def pin(self, seed: int) -> None:
        blob = self.blob(seed)
        assert (self.cache.pin(digest_of(blob)) is not None) is (blob in self.used)
        if blob in self.used:
            self.touch(blob)
            self.sketch.add(digest_of(blob))
            self.pins[blob] = self.pins.get(blob, 0) + 1

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        blob = data.draw(st.sampled_from(sorted(self.pins)))
        self.cache.unpin(digest_of(blob))
        self.pins[blob] -= 1
        if not self.pins[blob]:
            del self.pins[blob]

    @rule(seed=seeds)
    def drop(self, seed: int) -> None:
        blob = self.blob(seed)
        is_free = blob in self.used and blob not in self.pins
        assert self.cache.drop(digest_of(blob)) is is_free
        if is_free:
            self.used.remove(blob)

    @rule(first=seeds, count=st.integers(1, 25))
    def put_many(self, first: int, count: int) -> None:
        for seed in range(first, first + count):
            self.put(seed % 29)

    @precondition(lambda self: not self.pins)
    @rule()
    def restart(self) -> None:
        self.open()

    @invariant()
    def agrees(self) -> None:
        assert [resident.digest for resident in self.cache.residents()] == [
            digest_of(blob) for blob in self.used
        ]
        self.cache.check_integrity(read_blobs=True)
        assert self.cache.usage().used_bytes == sum(map(len, self.used)) <= self.max_bytes

    def teardown(self) -> None:
        for blob, count in self.pins.items():
            for _ in range(count):
                self.cache.unpin(digest_of(blob))
        self.directory.cleanup()


NodeCacheMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None
)
TestNodeCacheMachine = NodeCacheMachine.TestCase
