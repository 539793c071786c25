"""One entry of a name's history as JSON, and what the entries together mean. Pure.

An entry is either the manifest of a version or a tombstone, which ends every version below it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from adapter_cache.digest import is_digest
from contracts.adapters import AdapterKey, AdapterManifest, Digest, TenantId
from contracts.errors import AdapterCorrupt


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """What number `version` of a name stands for; `manifest` None is a tombstone."""

    version: int
    manifest: AdapterManifest | None


def entry_of(manifest: AdapterManifest) -> VersionEntry:
    """The entry that publishes `manifest`."""
    return VersionEntry(manifest.key.version, manifest)


def live_versions(entries: Iterable[VersionEntry]) -> list[AdapterManifest]:
    """Versions that no tombstone ended, lowest first; the last is the current one."""
    entries = list(entries)
    ended = last_tombstone(entries)
    live = [each.manifest for each in entries if each.manifest and each.version > ended]
    return sorted(live, key=lambda manifest: manifest.key.version)


def last_tombstone(entries: Iterable[VersionEntry]) -> int:
    """The highest number that is a tombstone, or 0."""
    return max((entry.version for entry in entries if entry.manifest is None), default=0)


def live_shares(shares: Iterable[tuple[int, TenantId]], ended: int) -> dict[TenantId, int]:
    """Readers of a name with the version that was current when they became so.

    `ended` is its last tombstone, which ended the shares that came before it, too.
    """
    return {reader: version for version, reader in sorted(shares) if version > ended}


def encode_entry(entry: VersionEntry) -> bytes:
    """The entry as JSON; tenant and name are not part of it."""
    fields: dict[str, Any] = {"version": entry.version, "deleted": True}
    if entry.manifest is not None:
        manifest, key = entry.manifest, entry.manifest.key
        fields = {
            "version": key.version,
            "digest": key.digest,
            "size_bytes": key.size_bytes,
            "rank": manifest.rank,
            "num_modules": manifest.num_modules,
            "created_at_s": manifest.created_at_s,
            "base_fingerprint": manifest.base_fingerprint,
        }
    return json.dumps(fields).encode()


def decode_entry(tenant: TenantId, name: str, version: int, text: bytes) -> VersionEntry:
    """Inverse of `encode_entry`. Raises AdapterCorrupt unless `text` is entry `version`."""
    try:
        fields = json.loads(text)
        if fields["version"] != version:
            raise ValueError("another version's entry")
        manifest = None if fields.get("deleted") else _manifest(tenant, name, fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterCorrupt(
            f"the stored entry of adapter {name!r} version {version} is damaged"
        ) from error
    return VersionEntry(version, manifest)


def _manifest(tenant: TenantId, name: str, fields: Mapping[str, Any]) -> AdapterManifest:
    digest, size_bytes = Digest(str(fields["digest"])), int(fields["size_bytes"])
    if not is_digest(digest):
        raise ValueError("not a digest")
    return AdapterManifest(
        AdapterKey(tenant, name, int(fields["version"]), digest, size_bytes),
        str(fields["base_fingerprint"]),
        int(fields["rank"]),
        int(fields["num_modules"]),
        float(fields["created_at_s"]),
    )
