"""The object store: every blob, and every name's history as files. All else can be rebuilt.

    blobs/<dd>/<digest>                                  row blob; dd: its first two hex digits
    names/<hh>/<tenant>/<name>/<version:010d>.json       one entry, created exclusively
    names/<hh>/<tenant>/<name>/<version:010d>.pin        the version is pinned
    names/<hh>/<tenant>/<name>/<version:010d>.<reader>.share
                                                         shared with a tenant, or * for all, when
                                                         this version was current
    incoming/                                            temporary files, on a local disk alone

Tenant and name are percent-quoted. hh, two hex digits of their hash, cuts the names into 256 parts:
each is listed in one go with bounded memory, and together they are all names.
"""

import hashlib
import logging
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from adapter_cache.digest import is_digest
from adapter_cache.fsspec_files import FoundFile, FsspecFiles
from adapter_cache.store import is_name
from adapter_cache.version_entry import VersionEntry, decode_entry, encode_entry
from contracts.adapters import Digest, TenantId
from contracts.errors import AdapterCorrupt, NotReady

_log = logging.getLogger(__name__)

_PROBE = "probe/created-once"


@dataclass(frozen=True, slots=True)
class NameFiles:
    """What is stored of one name, from a listing: number of each entry -> when it was written.

    `shares` are pairs of the version that was current and the reader, PUBLIC for everybody.
    """

    tenant: TenantId
    name: str
    entries: dict[int, float]
    pins: frozenset[int]
    shares: frozenset[tuple[int, TenantId]] = frozenset()


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One blob of a listing. `modified_at_s` is Unix time by the store's clock."""

    digest: Digest
    modified_at_s: float
    size_bytes: int


class FsspecObjects:
    """Blobs, entries and pins below one fsspec URL. Every method may raise StoreUnavailable.

    Also the lowest BlobTier. `options` go to the fsspec filesystem.
    """

    name = "store"

    def __init__(
        self, url: str, *, timeout_s: float = 30.0, max_parallel: int = 32, **options: Any
    ) -> None:
        self._files = FsspecFiles(url, timeout_s=timeout_s, max_parallel=max_parallel, **options)
        self._creates_once = False

    async def put_blob(self, digest: Digest, blob: bytes) -> None:
        """Store a blob; written even if it is there, so that its age starts anew."""
        await self._files.write(_blob_path(digest), blob)

    async def get_blob(self, digest: Digest) -> bytes | None:
        """The blob's bytes, unverified, or None."""
        return await self._files.read(_blob_path(digest)) if is_digest(digest) else None

    async def put(self, digest: Digest, blob: bytes) -> None:
        """See BlobTier."""
        await self.put_blob(digest, blob)

    async def get(self, digest: Digest) -> bytes | None:
        """See BlobTier."""
        return await self.get_blob(digest)

    async def has_blob(self, digest: Digest) -> bool:
        """Whether the blob is stored."""
        return await self.blob_modified_at_s(digest) is not None

    async def blob_modified_at_s(self, digest: Digest) -> float | None:
        """When the blob was last put; None: it is not stored."""
        return await self._files.modified_at_s(_blob_path(digest))

    async def delete_blob(self, digest: Digest) -> None:
        """Remove a blob. None there is as good."""
        await self._files.remove(_blob_path(digest))

    async def blobs(self) -> AsyncIterator[StoredBlob]:
        """Every blob, a 256th of them in memory at a time."""
        for part in await self._files.folders("blobs"):
            for file in await self._files.find(f"blobs/{part}"):
                digest = file.path.rpartition("/")[2]
                if is_digest(digest):
                    yield StoredBlob(Digest(digest), file.modified_at_s, file.size_bytes)

    async def create_entry(self, tenant: TenantId, name: str, entry: VersionEntry) -> bool:
        """Take the entry's number; False when it is taken. Of all who try, one succeeds.

        Raises NotReady when the store overwrites what it was told to create.
        """
        await self._require_created_once()
        path = _entry_path(tenant, name, entry.version)
        return await self._files.create(path, encode_entry(entry))

    async def read_entry(self, tenant: TenantId, name: str, version: int) -> VersionEntry | None:
        """One entry, or None. Raises AdapterCorrupt when it is damaged."""
        text = await self._files.read(_entry_path(tenant, name, version))
        return None if text is None else decode_entry(tenant, name, version, text)

    async def entries(self, tenant: TenantId, name: str) -> list[VersionEntry]:
        """Every entry of a name that can be read, lowest first; a damaged one is logged."""
        found: list[VersionEntry] = []
        for number in sorted((await self.name_files(tenant, name)).entries):
            try:
                entry = await self.read_entry(tenant, name, number)
            except AdapterCorrupt as error:
                _log.warning("%s", error)
            else:
                found += [entry] if entry else []
        return found

    async def name_files(self, tenant: TenantId, name: str) -> NameFiles:
        """What is stored of one name, in one listing; of a name that is not, nothing."""
        files = await self._files.find(_name_folder(tenant, name))
        return next(iter(_by_name(files)), NameFiles(tenant, name, {}, frozenset()))

    async def parts(self) -> list[str]:
        """The parts that hold names, for `names_in`.

        None at all is believed only of a store that can be written to: a bucket that is missing
        must not look like one in which everything was deleted.
        """
        found = await self._files.folders("names")
        if not found:
            await self._require_created_once()
        return found

    async def names_in(self, part: str) -> list[NameFiles]:
        """Every name of one part, deleted ones included."""
        return _by_name(await self._files.find(f"names/{part}"))

    async def all_names(self) -> AsyncIterator[NameFiles]:
        """Every name, deleted ones included, one part in memory at a time."""
        for part in await self.parts():
            for files in await self.names_in(part):
                yield files

    async def remove_entries(self, tenant: TenantId, name: str, versions: Iterable[int]) -> None:
        """Remove entries with their pins, lowest first: a tombstone outlasts what it ended."""
        for version in sorted(versions):
            await self._files.remove(_pin_path(tenant, name, version))
            await self._files.remove(_entry_path(tenant, name, version))

    async def pin(self, tenant: TenantId, name: str, version: int) -> None:
        """Mark a version as kept. Again is nothing."""
        await self._files.write(_pin_path(tenant, name, version), b"{}")

    async def unpin(self, tenant: TenantId, name: str, version: int) -> None:
        """Take the mark away. Again is nothing."""
        await self._files.remove(_pin_path(tenant, name, version))

    async def pins(self, tenant: TenantId, name: str) -> frozenset[int]:
        """The marked versions of a name."""
        return (await self.name_files(tenant, name)).pins

    async def share(self, tenant: TenantId, name: str, version: int, reader: TenantId) -> None:
        """Share a name, whose current version this is. Again is nothing."""
        await self._files.write(_share_path(tenant, name, version, reader), b"{}")

    async def unshare(
        self, tenant: TenantId, name: str, shares: Iterable[tuple[int, TenantId]]
    ) -> None:
        """Remove some of the shares that a listing gave."""
        for version, reader in sorted(shares):
            await self._files.remove(_share_path(tenant, name, version, reader))

    async def leftovers(self) -> list[FoundFile]:
        """Temporary files of writers, at work or dead."""
        return await self._files.find_incoming()

    async def remove_leftover(self, file: FoundFile) -> None:
        """Remove one of `leftovers`."""
        await self._files.remove(file.path)

    async def close(self) -> None:
        """End the threads."""
        await self._files.close()

    def __repr__(self) -> str:
        return f"<FsspecObjects {self._files!r}>"

    async def _require_created_once(self) -> None:
        """Some servers that speak S3 ignore the condition, and version numbers rest on it."""
        if self._creates_once:
            return
        if await self._files.create(_PROBE, b"{}") and await self._files.create(_PROBE, b"{}"):
            raise NotReady(
                "the object store overwrites what it was told to create: it does not know "
                "conditional writes, without which publishers would overwrite each other"
            )
        self._creates_once = True


def quote_part(text: str) -> str:
    """`text` as one part of a path; no two texts have the same."""
    quoted = quote(text, safe="")
    if not quoted.strip("."):
        # "" is no part of a path, and "." and ".." are others than themselves.
        return quoted.replace(".", "%2E") or "%"
    return quoted


def unquote_part(part: str) -> str:
    """Inverse of `quote_part`."""
    return "" if part == "%" else unquote(part)


def _blob_path(digest: Digest) -> str:
    return f"blobs/{digest[:2]}/{digest}"


def _name_folder(tenant: TenantId, name: str) -> str:
    folder = f"{quote_part(tenant)}/{quote_part(name)}"
    return f"names/{hashlib.sha256(folder.encode()).hexdigest()[:2]}/{folder}"


def _entry_path(tenant: TenantId, name: str, version: int) -> str:
    return f"{_name_folder(tenant, name)}/{version:010d}.json"


def _pin_path(tenant: TenantId, name: str, version: int) -> str:
    return f"{_name_folder(tenant, name)}/{version:010d}.pin"


def _share_path(tenant: TenantId, name: str, version: int, reader: TenantId) -> str:
    return f"{_name_folder(tenant, name)}/{version:010d}.{quote_part(reader)}.share"


def _by_name(files: Iterable[FoundFile]) -> list[NameFiles]:
    """Files below names/ put together by name; what has another form is none of ours."""
    entries: dict[tuple[str, str], dict[int, float]] = {}
    pins: dict[tuple[str, str], set[int]] = {}
    shares: dict[tuple[str, str], set[tuple[int, TenantId]]] = {}
    for file in files:
        parts = file.path.split("/")
        number, _, kind = parts[-1].partition(".")
        is_ours = len(parts) == 5 and number.isascii() and number.isdigit()
        if not (is_ours and is_name(unquote_part(parts[3]))):
            continue
        name = (parts[2], parts[3])
        if kind == "json":
            entries.setdefault(name, {})[int(number)] = file.modified_at_s
        elif kind == "pin":
            pins.setdefault(name, set()).add(int(number))
        elif kind.endswith(".share"):
            reader = TenantId(unquote_part(kind.removesuffix(".share")))
            shares.setdefault(name, set()).add((int(number), reader))
    return [
        NameFiles(
            TenantId(unquote_part(tenant)),
            unquote_part(name),
            entries.get((tenant, name), {}),
            frozenset(pins.get((tenant, name), ())),
            frozenset(shares.get((tenant, name), ())),
        )
        for tenant, name in sorted({*entries, *pins, *shares})
    ]
