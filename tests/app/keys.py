"""Factories for the tests of keys: issuers whose randomness and time a test sets."""

import itertools
from collections.abc import AsyncIterator
from dataclasses import replace

from app.api_key import ApiKey
from app.key_issuer import KeyIssuer
from app.keyring import MemoryKeys
from contracts.access import Scope
from contracts.adapters import TenantId

_IDS = itertools.count(1)

DRAFT = ApiKey(
    key_id="",
    tenant=TenantId("acme"),
    scopes=frozenset({Scope.GENERATE}),
    secrets=(),
    created_at_s=0.0,
)


class Clock:
    now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


class MemoryRecords(MemoryKeys):
    """A KeyStore that knows its keys, as the object store does."""

    async def put(self, key: ApiKey) -> bool:
        known = await self.get(key.key_id)
        return (known is None or known.generation < key.generation) and await super().put(key)

    async def key_ids(self) -> AsyncIterator[str]:
        for key_id in list(self._keys):
            yield key_id


def random_hex(num_bytes: int) -> str:
    return f"{next(_IDS):0{2 * num_bytes}x}"


def random_text(num_bytes: int) -> str:
    return f"{next(_IDS):s>43}" if num_bytes == 32 else ""


def make_issuer(
    copy: MemoryKeys | None = None, clock: Clock | None = None, records: MemoryRecords | None = None
) -> KeyIssuer:
    return KeyIssuer(
        records or MemoryRecords(),
        copy if copy is not None else MemoryKeys(),
        random_hex=random_hex,
        random_text=random_text,
        clock=clock or Clock(),
    )


def draft(tenant: str = "acme", *scopes: Scope, expires_at_s: float | None = None) -> ApiKey:
    """What a new key is to be."""
    return replace(
        DRAFT,
        tenant=TenantId(tenant),
        scopes=frozenset(scopes or DRAFT.scopes),
        expires_at_s=expires_at_s,
    )
