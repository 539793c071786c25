"""Rules of one name's versions: which stay, which one a rollback means. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from contracts.adapters import AdapterManifest


def outdated(versions: Iterable[int], pinned: Collection[int], keep_versions: int) -> list[int]:
    """Versions that need not stay: older than the newest `keep_versions`, and not pinned."""
    older = sorted(versions)[:-keep_versions]
    return [version for version in older if version not in pinned]


def rollback_target(
    versions: Sequence[AdapterManifest], version: int | None
) -> AdapterManifest | None:
    """The one of `versions` (lowest first) that a rollback means, or None.

    `version` None means the newest whose bytes are not the current ones.
    """
    if version is not None:
        return next((kept for kept in versions if kept.key.version == version), None)
    others = (kept for kept in reversed(versions) if kept.key.digest != versions[-1].key.digest)
    return next(others, None)


def as_version(manifest: AdapterManifest, version: int, created_at_s: float) -> AdapterManifest:
    """The same bytes as another version of the same name."""
    return replace(manifest, key=replace(manifest.key, version=version), created_at_s=created_at_s)
