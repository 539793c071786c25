"""Identity of an adapter. Knows nothing of its bytes, of the store or of the engine."""

import re
from dataclasses import dataclass, field, replace
from typing import NewType

TenantId = NewType("TenantId", str)
Digest = NewType("Digest", str)
"""SHA-256 of a compiled row blob, 64 lower-case hex digits. The bytes behind it never change."""

DEFAULT_TENANT = TenantId("default")
TENANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A whole tenant id."""
PUBLIC = TenantId("*")
"""Every tenant, where an adapter is shared. No tenant is called so."""
ADAPTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
"""A whole adapter name; it is never used as a path."""


@dataclass(frozen=True, slots=True)
class AdapterKey:
    """One immutable version of one tenant's adapter.

    `version` counts publishes of the name from 1; `digest` names the bytes. Caches are keyed by
    the digest alone, so equal bytes share memory and two versions never share anything. `base` is
    the fingerprint of the base model that it was made for, where whoever made the key knows it.
    """

    tenant: TenantId
    name: str
    version: int
    digest: Digest
    size_bytes: int
    base: str = field(default="", compare=False)

    @property
    def is_base(self) -> bool:
        """True for the identity adapter, which stands for "the base model, unchanged"."""
        return not self.digest


BASE = AdapterKey(TenantId(""), "", 0, Digest(""), 0)
"""The identity adapter: the null object that every layer accepts in place of None."""


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """What a caller asks for: a name, and a version or None for the current one.

    `tenant` owns the adapter. `reader` is the tenant that asks where it is not the owner: the
    adapter must have been shared with it, and is unknown otherwise. None asks for the owner.
    """

    tenant: TenantId
    name: str
    version: int | None = None
    reader: TenantId | None = None


@dataclass(frozen=True, slots=True)
class AdapterManifest:
    """What the registry keeps of one published version beside its bytes.

    `created_at_s` is Unix time. `rank` is the highest rank of any module; `num_modules` counts the
    base model's linear modules that the adapter changes. `base_fingerprint` is the base it was
    compiled for.
    """

    key: AdapterKey
    base_fingerprint: str
    rank: int
    num_modules: int
    created_at_s: float

    @property
    def resolved(self) -> AdapterKey:
        """The key as a look-up by name gives it: with its base."""
        return replace(self.key, base=self.base_fingerprint)


@dataclass(frozen=True, slots=True)
class AdapterChange:
    """A name's current version moved. `old` is the digest that it had ("": none), `new` what it
    has now, None after a delete. News, not truth: it may come late, twice or never.
    """

    tenant: TenantId
    name: str
    old: Digest
    new: AdapterKey | None
