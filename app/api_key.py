"""One API key: what its record says, and the text that its owner sends. Pure; stores nothing.

    flora-<key id, 16 hex digits>-<secret, 43 characters of base64>

The key id finds the record and is no secret. Of the secret only its SHA-256 is kept: 256 random
bits cannot be guessed from it, so a slow password hash would only slow each request.
"""

import hashlib
import hmac
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from contracts.access import UNLIMITED, Caller, Quota, Scope
from contracts.adapters import ADAPTER_NAME, TENANT_NAME, TenantId
from contracts.errors import AdapterCorrupt, InvalidRequest

SECRET_BYTES = 32
"""Random bytes of a secret."""
KEY_ID_BYTES = 8
"""Random bytes of a key id."""
MAX_SECRETS = 4
"""Secrets of one key that open it at a time: the newest, and those in their time of grace."""
MAX_ADAPTERS = 1000
MAX_LABEL_CHARACTERS = 200

KEY_ID = re.compile(r"[0-9a-f]{16}")
_TEXT = re.compile(r"flora-([0-9a-f]{16})-([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class SecretHash:
    """SHA-256 of one secret, as hex digits; it opens the key until `until_s`, None: for good."""

    sha256: str
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """Who may do what with a key. Times are Unix time in seconds.

    `generation` counts the changes of the record from 1; of two records of one key the higher
    counts. The newest secret is the last of `secrets`.
    """

    key_id: str
    tenant: TenantId
    scopes: frozenset[Scope]
    secrets: tuple[SecretHash, ...]
    created_at_s: float
    expires_at_s: float | None = None
    adapters: frozenset[str] | None = None
    quota: Quota = UNLIMITED
    weight: float = 1.0
    label: str = ""
    generation: int = 1
    is_revoked: bool = False

    def caller(self) -> Caller:
        """Whom the key stands for."""
        return Caller(self.key_id, self.tenant, self.scopes, self.adapters, self.quota, self.weight)

    def is_usable(self, now_s: float) -> bool:
        """Whether any secret opens the key at `now_s`."""
        return not self.is_revoked and (self.expires_at_s is None or now_s < self.expires_at_s)

    def is_opened_by(self, secret: str, now_s: float) -> bool:
        """Whether `secret` opens the key at `now_s`. Takes as long for a wrong one."""
        given = hash_secret(secret)
        matching = [
            kept
            for kept in self.secrets
            if hmac.compare_digest(kept.sha256, given)
            and (kept.until_s is None or now_s < kept.until_s)
        ]
        return self.is_usable(now_s) and bool(matching)

    def rotated(self, secret: str, now_s: float, grace_s: float) -> "ApiKey":
        """The next generation, opened by `secret`, and for `grace_s` by what opens this one."""
        until_s = now_s + grace_s
        ends = [
            replace(kept, until_s=until_s if kept.until_s is None else min(kept.until_s, until_s))
            for kept in self.secrets
        ]
        live = [kept for kept in ends if kept.until_s is not None and now_s < kept.until_s]
        secrets = (*live[1 - MAX_SECRETS :], SecretHash(hash_secret(secret)))
        return replace(self, secrets=secrets, generation=self.generation + 1)


def hash_secret(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def key_text(key_id: str, secret: str) -> str:
    """What the owner of a key sends."""
    return f"flora-{key_id}-{secret}"


def parse_key_text(text: str) -> tuple[str, str] | None:
    """Key id and secret; None for what cannot be a key."""
    found = _TEXT.fullmatch(text)
    return (found[1], found[2]) if found else None


def check_key(key: ApiKey) -> None:
    """Raises InvalidRequest for a key that nobody could mean."""
    quota = key.quota
    rules: list[tuple[bool, str, str]] = [
        (bool(TENANT_NAME.fullmatch(key.tenant)), "tenant", f"must match {TENANT_NAME.pattern}"),
        (bool(key.scopes), "scopes", "must not be empty"),
        (math.isfinite(key.weight) and key.weight > 0, "weight", "must be positive"),
        (len(key.label) <= MAX_LABEL_CHARACTERS and key.label.isprintable(), "label",
         f"must be at most {MAX_LABEL_CHARACTERS} printable characters"),
        (len(key.adapters or ()) <= MAX_ADAPTERS, "adapters", f"must be at most {MAX_ADAPTERS}"),
        (key.expires_at_s is None or math.isfinite(key.expires_at_s), "expires", "must be a time"),
        *((limit is None or limit >= 1, name, "must be at least 1") for name, limit in (
            ("requests_per_min", quota.requests_per_min),
            ("tokens_per_min", quota.tokens_per_min),
            ("max_streams", quota.max_streams))),
        *((_is_adapter(name), "adapters", f"{name[:100]!r} is no NAME or OWNER/NAME")
          for name in sorted(key.adapters or ())),
    ]  # fmt: skip
    for holds, field, text in rules:
        if not holds:
            raise InvalidRequest(f"{field}: {text}", field)


def encode_key(key: ApiKey) -> bytes:
    """The record as JSON. Revocation is no part of it: stores mark it beside the record."""
    quota = key.quota
    fields = {
        "key_id": key.key_id,
        "generation": key.generation,
        "tenant": key.tenant,
        "scopes": sorted(key.scopes),
        "adapters": None if key.adapters is None else sorted(key.adapters),
        "quota": [quota.requests_per_min, quota.tokens_per_min, quota.max_streams],
        "weight": key.weight,
        "created_at_s": key.created_at_s,
        "expires_at_s": key.expires_at_s,
        "label": key.label,
        "secrets": [[kept.sha256, kept.until_s] for kept in key.secrets],
    }
    return json.dumps(fields).encode()


def decode_key(key_id: str, text: bytes | str, *, is_revoked: bool) -> ApiKey:
    """Inverse of `encode_key`. Raises AdapterCorrupt: a damaged record opens nothing."""
    try:
        fields = json.loads(text)
        if fields["key_id"] != key_id:
            raise ValueError("another key's record")
        return _key(fields, is_revoked)
    except (ValueError, KeyError, TypeError, AttributeError, InvalidRequest) as error:
        raise AdapterCorrupt(f"the stored record of key {key_id} is damaged") from error


def _key(fields: Mapping[str, Any], is_revoked: bool) -> ApiKey:
    requests, tokens, streams = (_count(limit) for limit in fields["quota"])
    adapters, expires_at_s = fields["adapters"], fields["expires_at_s"]
    key = ApiKey(
        key_id=fields["key_id"],
        tenant=TenantId(str(fields["tenant"])),
        # A scope that this version does not know is damage: a key must not lose some unseen.
        scopes=frozenset(Scope(scope) for scope in fields["scopes"]),
        secrets=tuple(
            SecretHash(str(sha256), None if until_s is None else float(until_s))
            for sha256, until_s in fields["secrets"]
        ),
        created_at_s=float(fields["created_at_s"]),
        expires_at_s=None if expires_at_s is None else float(expires_at_s),
        adapters=None if adapters is None else frozenset(str(name) for name in adapters),
        quota=Quota(requests, tokens, streams),
        weight=float(fields["weight"]),
        label=str(fields["label"]),
        generation=int(fields["generation"]),
        is_revoked=is_revoked,
    )
    check_key(key)
    return key


def _count(limit: Any) -> int | None:
    return None if limit is None else int(limit)


def _is_adapter(name: str) -> bool:
    owner, slash, adapter = name.rpartition("/")
    return bool(ADAPTER_NAME.fullmatch(adapter) and (TENANT_NAME.fullmatch(owner) or not slash))
