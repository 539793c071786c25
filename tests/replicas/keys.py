"""Adapter keys and changes for tests that need no bytes."""

from contracts.adapters import DEFAULT_TENANT, AdapterChange, AdapterKey, Digest


def digest_of(content: str) -> Digest:
    """A digest's shape, told apart by its beginning."""
    return Digest(content.encode().hex().ljust(64, "0")[:64])


def key_of(name: str, version: int = 1, content: str = "") -> AdapterKey:
    digest = digest_of(content or f"{name}{version}")
    return AdapterKey(DEFAULT_TENANT, name, version, digest, 10)


def moved(old: AdapterKey | None, new: AdapterKey | None) -> AdapterChange:
    """The news that a name moved from one to the other."""
    name = (old or new or key_of("nobody")).name
    return AdapterChange(DEFAULT_TENANT, name, old.digest if old else Digest(""), new)
