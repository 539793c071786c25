"""Two tiers that miss, fail, stall and rot in any order, against a model of what must come out."""

import asyncio
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapter_cache.cache_metrics import CacheMetrics
from adapter_cache.fetcher import AdapterFetcher, FetchLimits
from adapter_cache.node_cache import NodeCache
from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt, DeadlineExceeded, ServingError, StoreUnavailable
from tests.adapter_cache.adapters import digest_of, make_blob, make_key
from tests.adapter_cache.tiers import (
    FakeClock,
    FakeTier,
    Mood,
    SkippingLoop,
    count,
    files_in,
    others_done,
)

BLOBS = [make_blob(seed) for seed in range(5)]
WRONG = make_blob(99)
DEADLINE_S = 30.0
NEGATIVE_TTL_S = 2.0
REST_S = 1.0

blobs = st.sampled_from(BLOBS)
moods = st.sampled_from(["up", "down", "stalled"])
contents = st.sampled_from(["right", "wrong", "none"])


class FetcherMachine(RuleBasedStateMachine):
    """The node has room for three of the five blobs."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=SkippingLoop)
        self.directory = Path(tempfile.mkdtemp())
        self.redis, self.store = FakeTier("redis"), FakeTier("store", BLOBS)
        # A stall outlasts the tier's share of the time; failures use up the deadline in four tries.
        self.redis.fails_after_s, self.store.fails_after_s = DEADLINE_S / 2, DEADLINE_S / 4
        self.cache = NodeCache(self.directory, 300)
        self.clock, self.metrics = FakeClock(), CacheMetrics()
        self.fetcher = AdapterFetcher(
            self.cache,
            [self.redis, self.store],
            limits=FetchLimits(deadline_s=DEADLINE_S, negative_ttl_s=NEGATIVE_TTL_S),
            metrics=self.metrics,
            clock=self.clock,
            rng=lambda: 0.0,
        )
        self.missing_until_s: dict[Digest, float] = {}
        self.redis_rests_until_s = 0.0

    def teardown(self) -> None:
        self.runner.run(self.fetcher.close())
        self.runner.close()
        shutil.rmtree(self.directory)

    @rule(redis=moods, store=moods)
    def change_moods(self, redis: Mood, store: Mood) -> None:
        self.redis.mood, self.store.mood = redis, store
        self.store.fails_after_s = DEADLINE_S / (1 if store == "stalled" else 4)

    @rule(blob=blobs, in_redis=contents, in_store=contents)
    def change_contents(self, blob: bytes, in_redis: str, in_store: str) -> None:
        for tier, content in ((self.redis, in_redis), (self.store, in_store)):
            tier.blobs.pop(digest_of(blob), None)
            if content != "none":
                tier.blobs[digest_of(blob)] = blob if content == "right" else WRONG

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.0]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.now_s += seconds

    @rule(blob=blobs)
    def drop(self, blob: bytes) -> None:
        self.cache.drop(digest_of(blob))
        assert digest_of(blob) not in files_in(self.directory)

    @rule(blob=blobs, hold=st.booleans(), num_callers=st.integers(1, 3))
    def fetch(self, blob: bytes, hold: bool, num_callers: int) -> None:
        digest = digest_of(blob)
        asks_redis, asks_store, outcome = self.expected(digest)
        asked = len(self.redis.asked), len(self.store.asked)
        results = self.runner.run(self.ask(blob, hold, num_callers))
        for result in results:
            assert result == blob if outcome is None else type(result) is outcome
        assert len(self.redis.asked) - asked[0] == asks_redis
        assert (len(self.store.asked) - asked[1] > 0) == asks_store
        if outcome is None and asks_redis and asks_store and self.redis.mood == "up":
            assert self.redis.blobs[digest] == blob

    @invariant()
    def nothing_is_left_over(self) -> None:
        self.cache.check_integrity(read_blobs=True)
        assert files_in(self.directory) <= {digest_of(blob) for blob in BLOBS}
        assert "0 pinned" in repr(self.cache)
        assert count(self.metrics, "flora_cache_pending") == 0
        assert count(self.metrics, "flora_cache_pending_bytes") == 0
        for tier in (self.redis, self.store):
            results = [
                count(self.metrics, "flora_cache_requests_total", tier.name, result)
                for result in ("hit", "miss", "corrupt", "error")
            ]
            assert sum(results) == len(tier.asked)

    def expected(self, digest: Digest) -> tuple[int, bool, type[ServingError] | None]:
        """How often Redis is asked, whether the store is, and what callers get: None is bytes."""
        now_s = self.clock.now_s
        if digest in files_in(self.directory):
            return 0, False, None
        if now_s < self.missing_until_s.get(digest, 0.0):
            return 0, False, AdapterCorrupt
        asks_redis = int(now_s >= self.redis_rests_until_s)
        if asks_redis and self.redis.mood != "up":
            self.redis_rests_until_s = now_s + REST_S
        elif asks_redis and self._is_right(self.redis, digest):
            return 1, False, None
        if self.store.mood == "stalled":
            return asks_redis, True, DeadlineExceeded
        if self.store.mood == "down":
            # Redis is asked again at every try, unless it rests.
            num_tries = 4 if self.redis.mood == "up" else 1
            return asks_redis * num_tries, True, StoreUnavailable
        if not self._is_right(self.store, digest):
            self.missing_until_s[digest] = now_s + NEGATIVE_TTL_S
            return asks_redis, True, AdapterCorrupt
        return asks_redis, True, None

    async def ask(self, blob: bytes, hold: bool, num_callers: int) -> list[bytes | BaseException]:
        async def ask_once() -> bytes:
            if not hold:
                return (await self.fetcher.ensure(make_key(blob))).read_bytes()
            async with self.fetcher.hold(make_key(blob)) as path:
                return path.read_bytes()

        results = await asyncio.gather(
            *(ask_once() for _ in range(num_callers)), return_exceptions=True
        )
        await others_done()
        return results

    @staticmethod
    def _is_right(tier: FakeTier, digest: Digest) -> bool:
        return tier.blobs.get(digest, WRONG) != WRONG


FetcherMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestFetcherMachine = FetcherMachine.TestCase
