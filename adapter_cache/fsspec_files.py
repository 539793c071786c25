"""Bytes under paths in any filesystem that fsspec knows. Knows nothing of adapters.

fsspec is called in threads, so a slow server or disk never holds the event loop. Listings are
never cached: other processes write too. On a local disk files are written by `whole_file`;
object stores show an object whole or not at all by themselves.
"""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from adapter_cache.whole_file import create_whole, write_whole
from contracts.errors import StoreUnavailable

P = ParamSpec("P")
T = TypeVar("T")

_INCOMING = "incoming"
_NO_BUCKET = "the object store's bucket does not exist"
_MODIFIED = ("mtime", "LastModified", "last_modified", "updated", "created")
"""Where filesystems say when a file was last written, most telling first."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """One file of a listing. `modified_at_s` is Unix time by the filesystem's clock."""

    path: str
    modified_at_s: float
    size_bytes: int


class FsspecFiles:
    """Files below one URL, by path relative to it. Every method may raise StoreUnavailable.

    One call may take `timeout_s`, a listing ten times that; `max_parallel` run beside each other.
    """

    def __init__(
        self, url: str, *, timeout_s: float = 30.0, max_parallel: int = 32, **options: Any
    ) -> None:
        self._fs, self._root = _open(url, options)
        self._local = Path(self._root) if isinstance(self._fs, LocalFileSystem) else None
        self._timeout_s = timeout_s
        self._threads = ThreadPoolExecutor(max_parallel, thread_name_prefix="objects")

    async def read(self, path: str) -> bytes | None:
        """The bytes of a file, or None."""
        try:
            data: bytes = await self._run(self._fs.cat_file, self._full(path))
        except FileNotFoundError:
            return None
        return data

    async def write(self, path: str, data: bytes) -> None:
        """Put a file in place of what may be there, whole or not at all."""
        try:
            await self._run(self._write, path, data)
        except FileNotFoundError:
            raise StoreUnavailable(_NO_BUCKET) from None

    async def create(self, path: str, data: bytes) -> bool:
        """Put a file, whole or not at all; False when there is one already."""
        try:
            return await self._run(self._create, path, data)
        except FileNotFoundError:
            raise StoreUnavailable(_NO_BUCKET) from None

    async def remove(self, path: str) -> None:
        """Remove a file. None there is as good."""
        try:
            await self._run(self._fs.rm_file, self._full(path))
        except FileNotFoundError:
            return

    async def modified_at_s(self, path: str) -> float | None:
        """When a file was last written; None: there is none. Says more than `exists` of fsspec,
        which takes some failures for an absent file.
        """
        try:
            return _modified_at_s(await self._run(self._fs.info, self._full(path)))
        except FileNotFoundError:
            return None

    async def find(self, folder: str) -> list[FoundFile]:
        """Every file at any depth below `folder`."""
        try:
            found = await self._run(self._find, folder, timeout_s=10 * self._timeout_s)
        except FileNotFoundError:
            return []
        return found

    async def folders(self, folder: str) -> list[str]:
        """Names of the folders directly in `folder`, in order."""
        try:
            infos = await self._run(self._list, folder, timeout_s=10 * self._timeout_s)
        except FileNotFoundError:
            return []
        names = (_name(info) for info in infos if info["type"] == "directory")
        return sorted(name.rstrip("/").rpartition("/")[2] for name in names)

    async def find_incoming(self) -> list[FoundFile]:
        """Temporary files: of writers at work, and of those that died."""
        return await self.find(_INCOMING)

    async def close(self) -> None:
        """End the threads; calls under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def __repr__(self) -> str:
        return f"<FsspecFiles on {type(self._fs).__name__}>"

    async def _run(self, work: Callable[..., T], *args: Any, timeout_s: float | None = None) -> T:
        """Call in a thread. Files that are there or not are told apart, all else is an outage."""
        try:
            async with asyncio.timeout(timeout_s or self._timeout_s):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, work, *args)
        except (FileNotFoundError, FileExistsError) as error:
            if _lacks_bucket(error):
                raise StoreUnavailable(_NO_BUCKET) from None
            raise
        except Exception as error:
            # Not chained: what the clients say may quote an address, a key or a signed URL.
            raise StoreUnavailable(f"the object store {_said(error)}") from None

    def _full(self, path: str) -> str:
        return f"{self._root}/{path}"

    def _write(self, path: str, data: bytes) -> None:
        if self._local:
            write_whole(self._local / path, data, self._local / _INCOMING)
        else:
            self._fs.pipe_file(self._full(path), data)

    def _create(self, path: str, data: bytes) -> bool:
        try:
            if self._local:
                create_whole(self._local / path, data, self._local / _INCOMING)
            else:
                self._fs.pipe_file(self._full(path), data, mode="create")
        except FileExistsError:
            return False
        except Exception:
            # Stores say "taken" in several ways, and more so while others are creating it.
            if self._has(path):
                return False
            raise
        return True

    def _has(self, path: str) -> bool:
        try:
            self._fs.info(self._full(path))
        except FileNotFoundError:
            return False
        return True

    def _list(self, folder: str) -> list[Mapping[str, Any]]:
        return list(self._fs.ls(self._full(folder), detail=True))

    def _find(self, folder: str) -> list[FoundFile]:
        return list(self._found(self._fs.find(self._full(folder), detail=True)))

    def _found(self, infos: Mapping[str, Mapping[str, Any]]) -> Iterator[FoundFile]:
        for info in infos.values():
            path = _name(info).removeprefix(f"{self._root}/")
            yield FoundFile(path, _modified_at_s(info), int(info.get("size") or 0))


def _open(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    try:
        fs, root = url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError:
        protocol = url.partition("://")[0]
        raise ValueError(
            f"object_store_url: {protocol}:// needs a package that is not installed; "
            "flora-serve[s3] and flora-serve[gcs] bring theirs"
        ) from None
    except Exception:
        # Not chained and not quoted: the URL may hold a password.
        raise ValueError("object_store_url is not a URL that fsspec can open") from None
    return fs, str(root).rstrip("/")


def _name(info: Mapping[str, Any]) -> str:
    return str(info["name"])


def _modified_at_s(info: Mapping[str, Any]) -> float:
    """Infinity where the filesystem does not say: such a file is never old."""
    value = next((info[field] for field in _MODIFIED if info.get(field)), None)
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.timestamp()
    return float("inf") if value is None else float(value)


def _lacks_bucket(error: Exception) -> bool:
    """Whether an S3 server missed not the object but all of them."""
    response = getattr(error.__cause__, "response", None) or {}
    return bool(response.get("Error", {}).get("Code") == "NoSuchBucket")


def _said(error: Exception) -> str:
    """A failure in our words; no part of it is the client's text."""
    if isinstance(error, PermissionError):
        return "does not allow this client what it needs"
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    number = error.errno if isinstance(error, OSError) else None
    return f"failed ({os.strerror(number) if number else type(error).__name__})"
