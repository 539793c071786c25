"""Any order of everything that can be done to a name, against a model of a few lines."""

import asyncio
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from adapter_cache.blobs import MemoryBlobs
from adapter_cache.changes import MemoryFeed
from adapter_cache.collector import collect
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.rebuild import rebuild
from adapter_cache.registry import MemoryRegistry
from contracts.adapters import DEFAULT_TENANT, PUBLIC, AdapterRef, TenantId
from tests.adapter_cache.adapters import digest_of, make_blob, publish

KEEP_VERSIONS = 3
NAMES = st.sampled_from(["ada", "bob"])
SEEDS = st.integers(0, 3)
READERS = st.sampled_from([TenantId("a.b"), TenantId("0000000001.json"), PUBLIC])
VERSIONS = st.none() | st.integers(1, 8)


@dataclass
class Name:
    """version -> seed of its bytes; `last` is the highest number ever used."""

    versions: dict[int, int] = field(default_factory=dict)
    pins: set[int] = field(default_factory=set)
    readers: set[str] = field(default_factory=set)
    last: int = 0

    @property
    def current(self) -> int | None:
        return max(self.versions, default=None)

    def append(self, seed: int) -> None:
        if self.current is not None and self.versions[self.current] == seed:
            return
        self.last += 1
        self.versions[self.last] = seed
        for number in sorted(self.versions)[:-KEEP_VERSIONS]:
            if number not in self.pins:
                del self.versions[number]

    def rollback_to(self, version: int | None) -> int | None:
        if version is not None or self.current is None:
            return version if version in self.versions else None
        seed = self.versions[self.current]
        return max((each for each in self.versions if self.versions[each] != seed), default=None)


class DurableHistory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.objects = FsspecObjects(f"file://{Path(self.folder.name).resolve()}", max_parallel=2)
        self.registry = MemoryRegistry()
        self.store = self.open_store()
        self.names = {"ada": Name(), "bob": Name()}

    def open_store(self) -> DurableAdapterStore:
        parts = (self.registry, MemoryBlobs(), self.objects, MemoryFeed())
        return DurableAdapterStore(*parts, keep_versions=KEEP_VERSIONS)

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    @rule(name=NAMES, seed=SEEDS)
    def publish(self, name: str, seed: int) -> None:
        self.names[name].append(seed)
        manifest = self.run(publish(self.store, name, make_blob(seed)))
        assert manifest.key.version == self.names[name].current

    @rule(name=NAMES)
    def delete(self, name: str) -> None:
        model = self.names[name]
        assert self.run(self.store.delete(DEFAULT_TENANT, name)) is bool(model.versions)
        if model.versions:
            self.names[name] = Name(last=model.last + 1)

    @rule(name=NAMES, version=VERSIONS)
    def rollback(self, name: str, version: int | None) -> None:
        model = self.names[name]
        target = model.rollback_to(version)
        manifest = self.run(self.store.rollback(DEFAULT_TENANT, name, version, 1.0))
        assert (manifest is None) is (target is None)
        if target is not None:
            model.append(model.versions[target])
            assert manifest.key.version == model.current

    @rule(name=NAMES, version=VERSIONS, is_pin=st.booleans())
    def pin(self, name: str, version: int | None, is_pin: bool) -> None:
        model = self.names[name]
        number = model.current if version is None else version
        call = self.store.pin if is_pin else self.store.unpin
        manifest = self.run(call(AdapterRef(DEFAULT_TENANT, name, version)))
        assert (manifest is None) is (number not in model.versions)
        if number is not None and number in model.versions:
            (model.pins.add if is_pin else model.pins.discard)(number)

    @rule(name=NAMES, reader=READERS, is_share=st.booleans())
    def share(self, name: str, reader: TenantId, is_share: bool) -> None:
        model = self.names[name]
        call = self.store.share if is_share else self.store.unshare
        manifest = self.run(call(DEFAULT_TENANT, name, reader))
        assert (manifest.key.version if manifest else None) == model.current
        if model.versions:
            (model.readers.add if is_share else model.readers.discard)(reader)

    @rule()
    def collect(self) -> None:
        collecting = collect(
            self.objects,
            self.registry,
            keep_versions=KEEP_VERSIONS,
            grace_s=1.0,
            now_s=time.time() + 100,
        )
        report = self.run(collecting)
        assert (report.num_recorded, report.num_damaged) == (0, 0)
        # An unpinned version may wait for the next publish, or for this.
        for model in self.names.values():
            for number in sorted(model.versions)[:-KEEP_VERSIONS]:
                if number not in model.pins:
                    del model.versions[number]

    @rule()
    def lose_the_registry(self) -> None:
        self.registry = MemoryRegistry()
        report = self.run(rebuild(self.objects, self.registry))
        assert report.num_versions == sum(len(model.versions) for model in self.names.values())
        self.store = self.open_store()

    @invariant()
    def answers_are_the_models(self) -> None:
        for name, model in self.names.items():
            manifests = self.run(self.store.versions(DEFAULT_TENANT, name))
            expected = {
                number: digest_of(make_blob(seed)) for number, seed in model.versions.items()
            }
            assert {each.key.version: each.key.digest for each in manifests} == expected
            [key] = self.run(self.store.resolve([AdapterRef(DEFAULT_TENANT, name)]))
            assert (key.version if key else None) == model.current
            assert self.run(self.store.pins(DEFAULT_TENANT, name)) == model.pins
            assert self.run(self.store.shares(DEFAULT_TENANT, name)) == model.readers
            ref = AdapterRef(DEFAULT_TENANT, name, None, TenantId("a.b"))
            [theirs] = self.run(self.store.resolve([ref]))
            assert theirs == (key if model.readers & {"a.b", PUBLIC} else None)
            for digest in expected.values():
                assert self.run(self.objects.has_blob(digest))

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()
        self.folder.cleanup()


TestDurableHistory = DurableHistory.TestCase
TestDurableHistory.settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
