"""Digests as names of bytes. Knows nothing of what the bytes mean."""

import hashlib
import re

from contracts.adapters import Digest
from contracts.errors import AdapterCorrupt

_DIGEST = re.compile(r"[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether `text` is exactly 64 lower-case hex digits, and so also a safe file name."""
    return _DIGEST.fullmatch(text) is not None


def require_digest(digest: str) -> Digest:
    """Return `digest` unchanged. Raises AdapterCorrupt when it has another form."""
    if not is_digest(digest):
        raise AdapterCorrupt(f"not an adapter digest (64 lower-case hex digits): {digest[:80]!r}")
    return Digest(digest)


def digest_of(blob: bytes) -> Digest:
    """SHA-256 of `blob`; releases the GIL, so it may run in a thread."""
    return Digest(hashlib.sha256(blob).hexdigest())


def verify_blob(digest: Digest, blob: bytes) -> None:
    """Raise AdapterCorrupt unless `blob` is the bytes that `digest` names."""
    verify_digest(digest, digest_of(blob), len(blob))


def verify_digest(digest: Digest, actual: Digest, size_bytes: int) -> None:
    """Raise AdapterCorrupt unless `actual`, that of `size_bytes` of bytes, is `digest`."""
    require_digest(digest)
    if actual != digest:
        raise AdapterCorrupt(
            f"{size_bytes} bytes stored as adapter {digest} have the digest {actual}"
        )
