"""Writers, evictions and readers that race over one stack, and the judgement of every answer."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import count
from time import perf_counter
from typing import cast

import numpy as np

from adapter_cache.collector import collect
from adapter_cache.node_cache import NodeCache
from app.ask import Ask
from app.dispatcher import LocalDispatcher
from app.dispatcher import Replica as ServedReplica
from app.gather import Gather, TimerBell, WindowTuning
from app.stores import Stores
from app.window import Window
from benchmarks.cold_stack import random_row
from benchmarks.pointer_history import PointerHistory
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterRef, Digest
from contracts.errors import ServingError, UnknownModel
from contracts.generation import GenerateRequest, Sampling, TokenDelta
from flora.layout import AdapterLayout
from replicas.replica import Replica

NUM_NAMES = 12
NUM_BLOBS = 24
NUM_READERS = 64
NUM_TOKENS = 5
JUDGE_S = 2.0
PROMPT = (11, 12, 13, 14)


@dataclass
class Outcome:
    """What the readers saw. `wrong` describes each answer that should not have been."""

    answers: int = 0
    absent: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


class Races:
    """One stack, its writers and its readers. `rng` decides everything but the timing."""

    def __init__(
        self, stores: Stores, replica: Replica, cache: NodeCache, rng: np.random.Generator
    ) -> None:
        self.outcome = Outcome()
        self.history = PointerHistory()
        self._stores = stores
        self._replica = replica
        self._cache = cache
        self._rng = rng
        self._blobs: dict[Digest, bytes] = {}
        self._answers: dict[str, Digest] = {}
        self._fingerprint = ""
        self._ids = count()
        # Nobody scrapes metrics here, the one method that it lacks.
        dispatcher = LocalDispatcher(cast(ServedReplica, replica))
        window = Window(stores.adapters, dispatcher, store_timeout_s=10.0)
        self._window = window
        self._gather = Gather(window, TimerBell(), WindowTuning())

    async def prepare(self, scale: float) -> None:
        """Make the adapters, and learn what each one answers."""
        layout = AdapterLayout.from_json((await self._replica.describe()).layout_json)
        self._fingerprint = layout.base_fingerprint
        for seed in range(NUM_BLOBS):
            blob = random_row(layout, 1, seed, scale)
            digest = Digest(sha256(blob).hexdigest())
            self._blobs[digest] = blob
            await self._stores.objects.put(digest, blob)
            key = AdapterKey(DEFAULT_TENANT, "alone", 1, digest, len(blob))
            answer = "".join([delta.text async for delta in self._alone(key)])
            self._answers[answer] = digest
        assert len(self._answers) == NUM_BLOBS, "two adapters answer alike: raise the scale"

    async def run(self, seconds: float) -> None:
        """Everything at once for a while."""
        stop_s = perf_counter() + seconds
        async with asyncio.TaskGroup() as group:
            for worker in range(4):
                names = [f"user-{i}" for i in range(worker, NUM_NAMES, 4)]
                group.create_task(self._until(stop_s, partial(self._write, names)))
            group.create_task(self._until(stop_s, self._evict))
            group.create_task(self._until(stop_s, self._collect))
            for _ in range(NUM_READERS):
                group.create_task(self._until(stop_s, self._read))
        await self._window.aclose()

    async def _until(self, stop_s: float, step: Callable[[], Awaitable[None]]) -> None:
        while perf_counter() < stop_s:
            await step()

    async def _write(self, names: list[str]) -> None:
        """One change of a name that nobody else changes."""
        name = str(self._rng.choice(names))
        kind = self._rng.choice(["publish", "rollback", "delete"], p=[0.6, 0.3, 0.1])
        began_s = perf_counter()
        store = self._stores.adapters
        if kind == "publish":
            digest = Digest(str(self._rng.choice(list(self._blobs))))
            await store.publish(
                DEFAULT_TENANT,
                name,
                self._blobs[digest],
                digest=digest,
                base_fingerprint=self._fingerprint,
                rank=1,
                num_modules=1,
                created_at_s=time.time(),
            )
            self.history.moved(name, began_s, perf_counter(), digest)
        elif kind == "rollback":
            made = await store.rollback(DEFAULT_TENANT, name, None, time.time())
            if made is not None:
                self.history.moved(name, began_s, perf_counter(), made.key.digest)
        elif await store.delete(DEFAULT_TENANT, name):
            self.history.moved(name, began_s, perf_counter(), "")
        await asyncio.sleep(float(self._rng.exponential(0.02)))

    async def _evict(self) -> None:
        """Take bytes away from the upper tiers."""
        digest = Digest(str(self._rng.choice(list(self._blobs))))
        await asyncio.to_thread(self._cache.drop, digest)
        if self._rng.random() < 0.3:
            await self._stores.hot.put(digest, b"damaged")
        await asyncio.sleep(float(self._rng.exponential(0.01)))

    async def _collect(self) -> None:
        """Garbage collection with a short grace period, beside everything else."""
        await asyncio.sleep(1.0)
        stores = self._stores
        await collect(
            stores.objects, stores.registry, keep_versions=10, now_s=time.time(), grace_s=10.0
        )

    async def _read(self) -> None:
        """One request, as the door sends it, and the judgement of its answer."""
        name = f"user-{min(int(self._rng.zipf(1.5)) - 1, NUM_NAMES - 1)}"
        ref = AdapterRef(DEFAULT_TENANT, name)
        sampling = Sampling(NUM_TOKENS, temperature=0.0, ignore_eos=True)
        ask = Ask(f"r{next(self._ids)}", name, ref, PROMPT, sampling)
        arrived_s = first_s = perf_counter()
        deltas: list[TokenDelta] = []
        try:
            async for burst in self._gather.open([ask])[0]:
                if not deltas:
                    first_s = perf_counter()
                deltas += burst
        except UnknownModel:
            self.outcome.absent += 1
            self._judge(name, "", arrived_s, perf_counter())
        except ServingError as error:
            self.outcome.errors[f"{error.code}: {error}"[:120]] += 1
        else:
            self.outcome.answers += 1
            answer = "".join(delta.text for delta in deltas)
            digest = self._answers.get(answer, Digest("a mixture, or nothing known"))
            self._judge(name, digest, arrived_s, first_s)

    def _judge(self, name: str, digest: str, from_s: float, to_s: float) -> None:
        # A change may still be on its way back to its writer: look again when it is recorded.
        loop = asyncio.get_running_loop()
        loop.call_later(JUDGE_S, self._judge_late, name, digest, from_s, to_s)

    def _judge_late(self, name: str, digest: str, from_s: float, to_s: float) -> None:
        if not self.history.was_current(name, digest, from_s, to_s):
            self.outcome.wrong.append(f"{name} answered by {digest[:12] or 'nobody'} at {to_s:.3f}")

    async def _alone(self, key: AdapterKey) -> AsyncIterator[TokenDelta]:
        sampling = Sampling(NUM_TOKENS, temperature=0.0, ignore_eos=True)
        request = GenerateRequest(f"alone-{next(self._ids)}", key, PROMPT, sampling)
        async for batch in self._replica.generate((request,)):
            for delta in batch.deltas:
                if delta.error is not None:
                    raise delta.error
                yield delta
