"""Every kind of filesystem keeps the same promises: a local disk, memory, and a real S3 server."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from adapter_cache.fsspec_files import FoundFile, FsspecFiles
from contracts.errors import StoreUnavailable
from tests.adapter_cache.s3_server import S3Server, s3_server


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["file", "memory", "s3"])
async def files(
    request: pytest.FixtureRequest, tmp_path: Path, s3: S3Server
) -> AsyncIterator[FsspecFiles]:
    if request.param == "s3":
        s3.make_bucket("files")
        files = FsspecFiles(f"s3://files/{tmp_path.name} 100%", **s3.options)
    else:
        files = FsspecFiles(f"{request.param}://{tmp_path}/a root")
    yield files
    await files.close()


async def test_what_is_written_is_read_until_it_is_removed(files: FsspecFiles) -> None:
    assert await files.read("a/b%2F/c") is None
    assert await files.modified_at_s("a/b%2F/c") is None
    await files.write("a/b%2F/c", b"one")
    await files.write("a/b%2F/c", b"two")
    assert await files.read("a/b%2F/c") == b"two"
    modified_at_s = await files.modified_at_s("a/b%2F/c")
    assert modified_at_s is not None
    assert abs(modified_at_s - time.time()) < 60
    for _ in range(2):
        await files.remove("a/b%2F/c")
        assert await files.read("a/b%2F/c") is None


@pytest.mark.parametrize("files", ["file", "s3"], indirect=True)
async def test_of_many_creators_one_succeeds(files: FsspecFiles) -> None:
    raced = await asyncio.gather(*(files.create("x", b"%d" % number) for number in range(20)))
    assert raced.count(True) == 1
    assert await files.read("x") == b"%d" % raced.index(True)
    await files.remove("x")
    assert await files.create("x", b"again") is True


async def test_a_listing_tells_paths_sizes_and_folders(files: FsspecFiles) -> None:
    assert (await files.find("f"), await files.folders("f"), await files.find_incoming()) == (
        [],
        [],
        [],
    )
    for path, size_bytes in (("f/b/x", 1), ("f/a/y/z", 2), ("f/c", 3), ("g/d", 4)):
        await files.write(path, b"." * size_bytes)
    found = {file.path: file.size_bytes for file in await files.find("f")}
    assert found == {"f/b/x": 1, "f/a/y/z": 2, "f/c": 3}
    assert all(abs(file.modified_at_s - time.time()) < 60 for file in await files.find("f"))
    assert await files.folders("f") == ["a", "b"]
    # Nothing is cached.
    await files.remove("f/b/x")
    await files.write("f/d/x", b"")
    assert sorted(file.path for file in await files.find("f")) == ["f/a/y/z", "f/c", "f/d/x"]


async def test_a_missing_bucket_is_an_outage_not_an_absence(s3: S3Server) -> None:
    files = FsspecFiles("s3://nobody-made-it/x", **s3.options)
    for call in (files.read("a"), files.write("a", b""), files.create("a", b"")):
        with pytest.raises(StoreUnavailable, match="bucket"):
            await call
    await files.close()


async def test_a_dead_server_is_an_outage_without_secrets() -> None:
    options: dict[str, Any] = {"key": "admin", "secret": "hunter2"}
    options["endpoint_url"] = "http://hunter2@127.0.0.1:9"
    files = FsspecFiles("s3://bucket/x", timeout_s=0.5, **options)
    for call in (files.read("a"), files.write("a", b""), files.find("a"), files.modified_at_s("a")):
        with pytest.raises(StoreUnavailable) as caught:
            # Listings are given ten times as long.
            await asyncio.wait_for(call, 6)
        assert "hunter2" not in f"{caught.value!r}{caught.value.__cause__}{files!r}"
    await files.close()


async def test_refused_credentials_are_named_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "key hunter2 may not", "hunter2")

    monkeypatch.setattr(LocalFileSystem, "cat_file", refuse)
    files = FsspecFiles(f"file://{tmp_path}")
    with pytest.raises(StoreUnavailable, match="does not allow") as caught:
        await files.read("a")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    await files.close()


@pytest.mark.parametrize("error", [RuntimeError("hunter2"), OSError(28, "hunter2"), KeyError(1)])
async def test_any_failure_is_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    for name in ("cat_file", "info", "find", "ls", "rm_file"):
        monkeypatch.setattr(LocalFileSystem, name, fail)
    files = FsspecFiles(f"file://{tmp_path}")
    calls: list[Callable[[str], object]]
    calls = [files.read, files.modified_at_s, files.find, files.folders, files.remove]
    for call in calls:
        with pytest.raises(StoreUnavailable) as caught:
            await call("a")  # type: ignore[misc]
        assert "hunter2" not in str(caught.value)
    await files.close()


async def test_a_creation_refused_in_other_words_is_still_a_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = FsspecFiles("memory://in-other-words")

    def conflict(*_: object, **__: object) -> None:
        raise OSError(5, "ConditionalRequestConflict")

    await files.write("a", b"first")
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", conflict)
    assert await files.create("a", b"second") is False
    with pytest.raises(StoreUnavailable):
        await files.create("b", b"second")
    await files.close()


async def test_a_hanging_disk_does_not_hang_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(LocalFileSystem, "cat_file", lambda *_: released.wait(60))
    files = FsspecFiles(f"file://{tmp_path}", timeout_s=0.05, max_parallel=2)
    results = await asyncio.gather(*(files.read("a") for _ in range(5)), return_exceptions=True)
    assert [str(result) for result in results] == ["the object store did not answer in time"] * 5
    released.set()
    await files.close()


async def test_a_file_of_unknown_age_is_never_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = {
        f"{tmp_path}/a": {"name": f"{tmp_path}/a", "type": "file", "size": None},
        f"{tmp_path}/b": {"name": f"{tmp_path}/b", "updated": "2026-01-01T00:00:00Z", "size": 3},
    }
    monkeypatch.setattr(LocalFileSystem, "find", lambda *_, **__: infos)
    files = FsspecFiles(f"file://{tmp_path}")
    assert await files.find("") == [
        FoundFile("a", float("inf"), 0),
        FoundFile("b", 1_767_225_600.0, 3),
    ]
    await files.close()


@pytest.mark.parametrize("url", ["nonsense-hunter2://x", "gs://hunter2", "zip://hunter2::nofile"])
def test_a_url_that_cannot_be_opened_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match="object_store_url") as caught:
        FsspecFiles(url)
    assert "hunter2" not in str(caught.value).replace(url.partition("://")[0], "")
    assert caught.value.__cause__ is None
