"""A publisher killed at every step of its work leaves nothing that is wrong or stays behind."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from adapter_cache.collector import CollectReport, collect
from adapter_cache.durable_store import DurableAdapterStore
from adapter_cache.fsspec_objects import FsspecObjects
from adapter_cache.rebuild import rebuild
from adapter_cache.redis_connect import RedisClients
from adapter_cache.redis_registry import RedisRegistry
from adapter_cache.registry import MemoryRegistry
from adapter_cache.valkey_server import ValkeyServer
from contracts.adapters import DEFAULT_TENANT, AdapterRef, Digest
from tests.adapter_cache.adapters import digest_of, make_blob, publish
from tests.adapter_cache.crash import KEEP_VERSIONS, make_store

pytestmark = pytest.mark.redis

ROOT = Path(__file__).parents[2]
ADA = AdapterRef(DEFAULT_TENANT, "ada")
GRACE_S = 3600.0


@dataclass
class Site:
    """One Redis prefix and one folder, where a publisher may die."""

    url: str
    prefix: str
    folder: Path

    def crash(self, die_at: int) -> "subprocess.CompletedProcess[str]":
        program = [sys.executable, "-m", "tests.adapter_cache.crash"]
        arguments = [self.url, self.prefix, str(self.folder), str(die_at)]
        return subprocess.run([*program, *arguments], cwd=ROOT, capture_output=True, text=True)


@dataclass
class Found:
    """A site as somebody sees it who comes later."""

    store: DurableAdapterStore
    registry: RedisRegistry
    objects: FsspecObjects

    async def digests(self) -> set[Digest]:
        return {blob.digest async for blob in self.objects.blobs()}

    async def current(self) -> int:
        [key] = await self.store.resolve([ADA])
        assert key is not None
        blob = await self.objects.get(key.digest)
        assert blob is not None
        assert digest_of(blob) == key.digest
        return key.version

    async def collect(self) -> CollectReport:
        return await collect(
            self.objects,
            self.registry,
            keep_versions=KEEP_VERSIONS,
            grace_s=GRACE_S,
            now_s=time.time() + 2 * GRACE_S,
        )

    async def require_tidy(self) -> None:
        """Registry, entries and blobs say the same, and nothing else is there."""
        kept = await self.store.versions(DEFAULT_TENANT, "ada")
        rebuilt = MemoryRegistry()
        await rebuild(self.objects, rebuilt)
        assert await rebuilt.versions(DEFAULT_TENANT, "ada") == kept
        assert await self.digests() == {manifest.key.digest for manifest in kept}
        assert await self.objects.leftovers() == []


async def visit(site: Site) -> Found:
    clients, objects = RedisClients.connect(site.url), FsspecObjects(f"file://{site.folder}")
    store = make_store(clients, site.prefix, objects)
    return Found(store, RedisRegistry(clients, site.prefix), objects)


async def make_site(valkey: ValkeyServer, prefix: str, folder: Path) -> Site:
    site = Site(valkey.url, prefix, folder)
    found = await visit(site)
    for seed in (1, 2):
        await publish(found.store, "ada", make_blob(seed))
    await found.store.close()
    return site


def crash_everywhere(sites: list[Site]) -> Iterator[int]:
    """Kill one publisher a site, each one step later than the one before."""
    with ThreadPoolExecutor(2) as threads:
        done = threads.map(lambda pair: pair[1].crash(pair[0]), enumerate(sites, 1))
        yield from (process.returncode for process in done)


async def all_steps(valkey: ValkeyServer, tmp_path: Path) -> list[str]:
    site = await make_site(valkey, f"{tmp_path}/whole", tmp_path / "whole")
    process = site.crash(0)
    assert (process.returncode, process.stderr) == (0, "")
    return process.stdout.splitlines()


async def killed_at_every_step(
    valkey: ValkeyServer, tmp_path: Path, steps: list[str]
) -> list[Site]:
    sites = [
        await make_site(valkey, f"{tmp_path}/{index}", tmp_path / f"{index}")
        for index in range(len(steps))
    ]
    assert set(crash_everywhere(sites)) == {-signal.SIGKILL}
    return sites


async def test_a_killed_publish_is_collected_and_then_repeated(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    steps = await all_steps(valkey, tmp_path)
    shown = steps.index("after advance")
    committed = steps.index("after create_entry")
    for index, site in enumerate(await killed_at_every_step(valkey, tmp_path, steps)):
        found = await visit(site)
        # Until the registry has taken the new version, everybody sees the old one.
        current = await found.current()
        assert current == 3 or index <= shown, steps[index]
        assert current == 2 or index >= shown, steps[index]
        await found.collect()
        await found.collect()
        await found.require_tidy()
        # An entry is what commits; a publish that had it was finished by the collector.
        current = await found.current()
        assert current == 3 or index <= committed, steps[index]
        assert (await publish(found.store, "ada", make_blob(4))).key.version == current + 1
        assert await found.current() == current + 1
        await found.store.close()


async def test_a_killed_publish_is_repeated_and_then_collected(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    steps = await all_steps(valkey, tmp_path)
    for site in await killed_at_every_step(valkey, tmp_path, steps):
        found = await visit(site)
        manifest = await publish(found.store, "ada", make_blob(3))
        # The same publish again: never a second version of it.
        assert (manifest.key.version, await found.current()) == (3, 3)
        await found.collect()
        await found.collect()
        await found.require_tidy()
        await found.store.close()
