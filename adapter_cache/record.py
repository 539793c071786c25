"""One registry record: a manifest as one short line of text. Knows nothing of where it is kept.

    version:digest:size_bytes:rank:num_modules:created_at_s:base_fingerprint

Resolving a name reads the first three fields and the last one. The fingerprint comes last, so it
alone may contain the separator. Text, not a packed struct: an operator can read it with any client.
"""

from contracts.adapters import AdapterKey, AdapterManifest, Digest, TenantId
from contracts.errors import AdapterCorrupt


def encode_record(manifest: AdapterManifest) -> str:
    """The record of `manifest`; tenant and name are not part of it."""
    key = manifest.key
    head = f"{key.version}:{key.digest}:{key.size_bytes}"
    counts = f"{manifest.rank}:{manifest.num_modules}"
    return f"{head}:{counts}:{manifest.created_at_s!r}:{manifest.base_fingerprint}"


def decode_key(tenant: TenantId, name: str, record: str) -> AdapterKey:
    """Only the key of a record, with its base. Raises AdapterCorrupt when it is not a record."""
    try:
        version, digest, size_bytes, *_, base = record.split(":", 6)
        return AdapterKey(tenant, name, int(version), Digest(digest), int(size_bytes), base)
    except ValueError as error:
        raise AdapterCorrupt(f"the registry's record of adapter {name!r} is damaged") from error


def decode_record(tenant: TenantId, name: str, record: str) -> AdapterManifest:
    """Inverse of `encode_record`. Raises AdapterCorrupt when `record` is not one."""
    key = decode_key(tenant, name, record)
    try:
        rank, num_modules, created_at_s, fingerprint = record.split(":", 6)[3:]
        return AdapterManifest(key, fingerprint, int(rank), int(num_modules), float(created_at_s))
    except ValueError as error:
        raise AdapterCorrupt(f"the registry's record of adapter {name!r} is damaged") from error
