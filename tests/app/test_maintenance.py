"""`flora adapters rebuild` and `gc` on a real Valkey and a folder."""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapter_cache.config import CacheConfig
from adapter_cache.valkey_server import ValkeyServer
from app import cli
from app.stores import open_stores
from contracts.adapters import DEFAULT_TENANT, AdapterKey, AdapterRef
from tests.app.parts import publish

pytestmark = pytest.mark.redis

_PREFIXES = (f"maintained{number}" for number in itertools.count())


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer.start(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def cache(valkey: ValkeyServer, tmp_path: Path) -> CacheConfig:
    """Three versions of "a", the first two of them pruned, and one of "b"."""
    config = CacheConfig(
        redis_url=valkey.url,
        key_prefix=next(_PREFIXES),
        object_store_url=f"file://{tmp_path}/objects",
        keep_versions=1,
    )
    asyncio.run(fill(config))
    return config


async def fill(cache: CacheConfig) -> None:
    stores = open_stores(cache)
    for seed in range(3):
        await publish(stores.adapters, "a", seed=seed)
    await publish(stores.adapters, "b", seed=9)
    await stores.close()


async def resolve(cache: CacheConfig) -> list[AdapterKey | None]:
    stores = open_stores(cache)
    keys = await stores.adapters.resolve([AdapterRef(DEFAULT_TENANT, name) for name in "ab"])
    await stores.close()
    return keys


async def forget_all(cache: CacheConfig) -> None:
    stores = open_stores(cache)
    async with stores.clients.writing() as redis:
        await redis.flushall()
    await stores.close()


def flora(cache: CacheConfig, *words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of `flora adapters WORDS` with these settings."""
    given = {
        "redis_url": cache.redis_url,
        "key_prefix": cache.key_prefix,
        "object_store_url": cache.object_store_url,
        "valkey_dir": cache.valkey_dir,
        "keep_versions": cache.keep_versions,
    }
    options = [part for name, value in given.items() for part in ("--set", f"cache.{name}={value}")]
    monkeypatch.setattr(sys, "argv", ["flora", "adapters", *words, *options])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def age(folder: Path, age_s: float) -> None:
    """As if everything had been written long ago."""
    then_s = time.time() - age_s
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, (then_s, then_s))


def test_an_emptied_registry_is_filled_again(
    cache: CacheConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = asyncio.run(resolve(cache))
    assert [key and (key.name, key.version) for key in before] == [("a", 3), ("b", 1)]
    asyncio.run(forget_all(cache))
    assert asyncio.run(resolve(cache)) == [None, None]
    assert flora(cache, "rebuild", monkeypatch=monkeypatch) == 0
    assert "2 adapters with 2 versions, 2 of these recorded anew" in capsys.readouterr().out
    assert asyncio.run(resolve(cache)) == before
    assert flora(cache, "rebuild", monkeypatch=monkeypatch) == 0
    assert "0 of these recorded anew" in capsys.readouterr().out


def test_garbage_is_told_then_removed_once_it_is_old(
    cache: CacheConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = asyncio.run(resolve(cache))
    for words, age_s, told, num_left in [
        (["gc"], 0.0, "removed 0 of 4 blobs (0 bytes)", 4),
        (["gc", "--dry-run"], 7200.0, "would remove 2 of 4 blobs", 4),
        (["gc"], 7200.0, "removed 2 of 4 blobs", 2),
        (["gc"], 7200.0, "removed 0 of 2 blobs", 2),
    ]:
        age(tmp_path / "objects", age_s)
        assert flora(cache, *words, monkeypatch=monkeypatch) == 0
        assert told in " ".join(capsys.readouterr().out.split())
        blobs = [path for path in (tmp_path / "objects" / "blobs").rglob("*") if path.is_file()]
        assert len(blobs) == num_left
    assert asyncio.run(resolve(cache)) == before


def test_an_entry_that_cannot_be_read_is_an_error_and_keeps_all_bytes(
    cache: CacheConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = next((tmp_path / "objects" / "names").rglob("a/*.json"))
    entry.write_bytes(b"{")
    age(tmp_path / "objects", 7200.0)
    for words in ("gc", "rebuild"):
        assert flora(cache, words, monkeypatch=monkeypatch) == cli.EXIT_SERVICE
        assert "1 entries cannot be read" in capsys.readouterr().err
    assert len([p for p in (tmp_path / "objects" / "blobs").rglob("*") if p.is_file()]) == 4


def test_without_a_url_the_embedded_server_is_used_or_runs_meanwhile(
    cache: CacheConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    embedded = replace(cache, redis_url="", valkey_dir=tmp_path / "valkey")
    assert flora(embedded, "rebuild", monkeypatch=monkeypatch) == 0
    assert "2 of these recorded anew" in capsys.readouterr().out
    with ValkeyServer.start(tmp_path / "valkey") as server:
        assert flora(embedded, "rebuild", monkeypatch=monkeypatch) == 0
        assert "0 of these recorded anew" in capsys.readouterr().out
        (tmp_path / "valkey" / "address").unlink()
        assert flora(embedded, "rebuild", monkeypatch=monkeypatch) == cli.EXIT_SERVICE
        assert "cache.redis_url" in capsys.readouterr().err
        kept = asyncio.run(resolve(replace(embedded, redis_url=server.url)))
    assert [key and key.version for key in kept] == [3, 1]


def test_an_unreachable_redis_is_not_the_callers_fault(
    cache: CacheConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away = replace(cache, redis_url="redis://:hunter2@127.0.0.1:1/0")
    assert flora(away, "rebuild", monkeypatch=monkeypatch) == cli.EXIT_SERVICE
    assert "hunter2" not in capsys.readouterr().err
